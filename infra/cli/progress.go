package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// patience is how long work may take before a message tells what is running.
const patience = time.Second

// during calls work. If it takes over a second, a terminal shows what is running and for how long.
func (a *app) during(what string, work func() error) error {
	if !a.terminal(a.Err) {
		return work()
	}
	return a.waiting(work, func(elapsed time.Duration, done bool) {
		if done {
			fmt.Fprint(a.Err, "\r\x1b[K")
			return
		}
		frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
		frame := frames[int(elapsed/(100*time.Millisecond))%len(frames)]
		fmt.Fprintf(a.Err, "\r\x1b[K%c %s (%.1f s)", frame, what, elapsed.Seconds())
	})
}

// announced calls work. If it takes over a second, a terminal shows what is running and for how long, and other output
// gets one line.
func (a *app) announced(what string, work func() error) error {
	if a.terminal(a.Err) {
		return a.during(what, work)
	}
	written := false
	return a.waiting(work, func(_ time.Duration, done bool) {
		if !done && !written {
			written = true
			fmt.Fprintf(a.Err, "%s: %s …\n", a.Name, what)
		}
	})
}

// waiting calls work, and calls show ten times a second after the first second, and once at the end if it was called
// before.
func (a *app) waiting(work func() error, show func(elapsed time.Duration, done bool)) error {
	began := time.Now()
	finished := make(chan error, 1)
	go func() { finished <- work() }()
	for next, shown := patience, false; ; next, shown = 100*time.Millisecond, true {
		select {
		case err := <-finished:
			if shown {
				show(time.Since(began), true)
			}
			return err
		case <-time.After(next):
			show(time.Since(began), false)
		}
	}
}
