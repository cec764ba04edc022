package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// watch builds the module's command, runs it as a child with the same flags, and does both again when a file of the
// module changes. It keeps the listener open, so that no connection is refused in between.
func (a *app) watch(ctx context.Context, cfg devConfig, flags []string) error {
	m, err := a.ownModule()
	if err != nil {
		return fmt.Errorf("dev --watch builds the command from its source: %w", err)
	}
	listener, err := listen(cfg.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return err
	}
	changes, err := watchFiles(ctx, m.dir, data)
	if err != nil {
		return err
	}
	dir := filepath.Join(data, "watch")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := filepath.Base(m.command)
	w := &watcher{
		app: a, listener: listener, changes: changes,
		build: func(ctx context.Context, into string) (string, error) { return m.build(ctx, into, m.fast()...) },
		start: a.startChild,
		args:  append([]string{"dev", "--watched"}, flags...), hosts: list(cfg.Hosts),
		next: filepath.Join(dir, name+".next"), current: filepath.Join(dir, name),
		name: name,
	}
	return w.run(ctx)
}

// fast returns flags for a faster go build: without symbols and version information, and without optimising the
// functions, which change most.
func (m goModule) fast() []string {
	return []string{"-buildvcs=false", "-ldflags=-s -w", "-gcflags=" + m.path + "/functions/...=-N -l"}
}

// watcher builds, runs and restarts one command.
type watcher struct {
	app      *app
	listener net.Listener
	changes  <-chan struct{} // one for each burst of changes
	name     string          // the command's name, for messages
	args     []string
	hosts    []string // names that requests may be for, besides those of loopback

	build func(ctx context.Context, into string) (output string, err error)
	start func(binary string, args []string, listener net.Listener) (*child, error)

	next, current string // paths of the binary being built and of the running one

	running *child
	page    *errorPage // serves while there is no child; nil: not served
}

// run builds and restarts until ctx ends, and then drains the child. When the child exits by itself, an error page is
// served at the address until the next change.
func (w *watcher) run(ctx context.Context) error {
	defer w.stop()
	for {
		changed, err := w.cycle(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if changed {
			continue
		}
		var ended <-chan struct{}
		if w.running != nil {
			ended = w.running.done
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.changes:
		case <-ended:
			w.crashed()
			select {
			case <-ctx.Done():
				return nil
			case <-w.changes:
			}
		}
	}
}

// cycle builds once, and restarts if the binary changed. changed reports that files changed meanwhile and the build was
// cancelled.
func (w *watcher) cycle(ctx context.Context) (changed bool, err error) {
	began := time.Now()
	building, stop := context.WithCancel(ctx)
	defer stop()
	type built struct {
		output string
		err    error
	}
	done := make(chan built, 1)
	go func() {
		var b built
		b.err = w.app.announced("building "+w.name, func() (err error) {
			b.output, err = w.build(building, w.next)
			return err
		})
		done <- b
	}()
	select {
	case <-w.changes:
		stop()
		<-done
		return true, nil
	case b := <-done:
		if ctx.Err() != nil {
			return false, nil
		}
		if b.err != nil {
			w.fail("does not compile", b.output, b.err)
			return false, nil
		}
	}
	if w.running != nil && !w.running.ended() && sameFile(w.next, w.current) {
		return false, nil
	}
	restarted := w.running != nil
	w.stop()
	if err := os.Rename(w.next, w.current); err != nil {
		return false, err
	}
	if w.running, err = w.start(w.current, w.args, w.listener); err != nil {
		return false, err
	}
	if restarted {
		fmt.Fprintf(w.app.Err, "%s: built and restarted after %.1f s\n", w.app.Name, time.Since(began).Seconds())
	}
	return false, nil
}

// stop ends the child or the error page, and waits until the data directory is free.
func (w *watcher) stop() {
	if w.running != nil {
		w.running.stop()
		w.running = nil
	}
	if w.page != nil {
		w.page.close()
		w.page = nil
	}
}

// fail shows an error in the terminal and at the address.
func (w *watcher) fail(what, output string, err error) {
	text := output
	if text == "" {
		text = err.Error()
	}
	fmt.Fprintf(w.app.Err, "%s: %s %s\n%s\n", w.app.Name, w.name, w.app.paint(w.app.Err, red, what), plain(text))
	w.stop()
	page, err := serveErrorPage(w.listener, w.hosts, w.name+" "+what, text)
	if err != nil {
		fmt.Fprintf(w.app.Err, "%s: cannot serve the error page: %v\n", w.app.Name, err)
		return
	}
	w.page = page
}

// crashed shows that the child exited by itself.
func (w *watcher) crashed() {
	c := w.running
	w.running = nil
	w.fail("has ended", c.lastOutput(), errors.New(c.state()))
}
