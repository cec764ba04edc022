package eventlog

import (
	"context"
	"time"
)

// How often cursors are saved, and how the log is trimmed.
const (
	saveEvery = 50 * time.Millisecond
	trimEvery = 1024 // entries
	trimTail  = 256  // entries that stay in any case
)

// keep saves cursors that have moved and trims the log, until ctx ends. After a slow save it waits longer, so that
// saving never takes more than a tenth of the time.
func (b *Broker) keep(ctx context.Context) {
	defer close(b.keeperEnd)
	for {
		select {
		case <-b.dirty:
		case <-ctx.Done():
			b.save()
			return
		}
		began := time.Now()
		b.save()
		b.trim(ctx)
		pause := max(saveEvery, 9*time.Since(began))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			b.save()
			return
		}
	}
}

// save writes the cursors and attempts that have changed since the last time.
func (b *Broker) save() {
	b.saving <- struct{}{} // so that an older cursor never overwrites a newer one
	defer func() { <-b.saving }()
	b.mu.Lock()
	cursors := make(map[string][]byte)
	var saved, all []*session
	for name, s := range b.sessions {
		all = append(all, s)
		if c := s.takeCursor(); c != nil {
			cursors[name] = c
			saved = append(saved, s)
		}
	}
	b.mu.Unlock()
	for _, s := range all {
		if err := s.saveAttempts(true); err != nil {
			b.opts.Logger.Warn("attempts were not saved; a crash would lose them", "trigger", s.trigger.Name(), "error", err)
		}
	}
	if len(cursors) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	if err := b.log.SaveCursors(ctx, cursors); err != nil {
		b.opts.Logger.Warn("cursors were not saved; events may come again", "error", err)
		for _, s := range saved {
			s.touch()
		}
	}
}

// saveCursor writes the cursor of one session if it has moved.
func (b *Broker) saveCursor(s *session) error {
	b.saving <- struct{}{}
	defer func() { <-b.saving }()
	c := s.takeCursor()
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	return b.log.SaveCursors(ctx, map[string][]byte{s.trigger.Name(): c})
}

// trim drops what no trigger needs any more. All known triggers count, also those that no process serves just now: they
// go on where they stopped, unless that is too long ago.
func (b *Broker) trim(ctx context.Context) {
	end := b.reader.position()
	if end < b.lastTrim.Load()+trimEvery {
		return
	}
	b.forgetUnserved(ctx)
	cursors, err := b.log.Cursors(ctx)
	if err != nil {
		b.opts.Logger.Warn("the log was not trimmed", "error", err)
		return
	}
	low := end
	for name, saved := range cursors {
		cur, err := decodeCursor(saved)
		if err != nil {
			b.opts.Logger.Error("a cursor cannot be read; the log is not trimmed", "trigger", name, "error", err)
			return
		}
		low = min(low, cur.low())
	}
	b.lastTrim.Store(end)
	if low <= trimTail {
		return
	}
	if err := b.log.Trim(ctx, low-trimTail); err != nil {
		b.opts.Logger.Warn("the log was not trimmed", "error", err)
	}
}
