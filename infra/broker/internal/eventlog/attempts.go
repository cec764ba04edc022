package eventlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// attempts is what is saved of a trigger beside its cursor: whether a session is running, and the attempts at events
// that have not finished.
//
// A session that begins saves that it runs, before it hands anything out, and saves that it has ended when all of its
// calls have returned. One that finds another one running follows a death of the process. The events that its cursor
// leaves open, up to the end of the log at that time, may have been in a call then.
//
// The attempts that were answered are saved with the cursors, some 50 ms later, and only if there are any. Those at
// suspects are saved before the call: see package delivery.
type attempts struct {
	running bool
	deaths  int    // since an event before upTo is open
	upTo    uint64 // a position after the events that may have been in a call at the last death
	tries   map[position]tries
}

// tries are the attempts at one event.
type tries struct {
	id uint32 // see identity
	delivery.Tries
}

// maxEnded limits the dead letters whose attempts are still saved. After a death a dead letter may be open again, since
// cursors are saved later than attempts, and would be tried as if it were new.
const maxEnded = 256

// endedEvent is an event that has become a dead letter, with its attempts.
type endedEvent struct {
	position
	tries
}

// maxSuspects limits the events that are taken for possible suspects, which are handled slowly. Those in calls are
// among the first that a session reads.
const maxSuspects = 8192

// identity returns a checksum of the event's source and id. Attempts belong to an event and not to its position, which
// is used again when the log has lost its end.
func identity(e *event.Event) uint32 {
	h := fnv.New32a()
	h.Write([]byte(e.Source()))
	h.Write([]byte{0})
	h.Write([]byte(e.ID()))
	return h.Sum32()
}

// newItem returns an item with what is known of the event from earlier sessions.
func (s *session) newItem(e *event.Event, p position) *item {
	it := delivery.NewItem(e, openEvent{position: p})
	deaths := 0
	if p.entry < s.before.upTo && s.suspects < maxSuspects {
		s.suspects++
		deaths = s.before.deaths
	}
	if t, ok := s.before.tries[p]; ok && t.id == identity(e) {
		it.Ref.tries = t
	}
	it.SetHistory(it.Ref.tries.Tries, deaths)
	return it
}

// begin loads what earlier sessions have left, and saves that this one runs.
func (s *session) begin(ctx context.Context, cur Cursor) error {
	log, name := s.broker.log, s.trigger.Name()
	saved, err := log.LoadAttempts(ctx, name)
	if err != nil {
		return err
	}
	if s.before, err = decodeAttempts(saved); err != nil {
		s.broker.opts.Logger.Error("the saved attempts cannot be read; they are counted from zero",
			"trigger", name, "error", err)
	}
	end, err := log.End(ctx)
	if err != nil {
		return err
	}
	a := &s.before
	if a.upTo <= cur.low() {
		a.deaths, a.upTo = 0, 0
	}
	if a.running && cur.low() < end {
		a.deaths, a.upTo = a.deaths+1, end
	}
	for p := range a.tries {
		if p.entry < cur.low() {
			delete(a.tries, p)
		}
	}
	a.running = true
	return log.SaveAttempts(ctx, name, a.encode())
}

// Tried implements delivery.Keeper.
func (s *session) Tried(tried []delivery.Tried[openEvent]) {
	s.mu.Lock()
	marked := false
	for _, t := range tried {
		marked = marked || t.Item.Ref.tries.Begun
		t.Item.Ref.tries = tries{identity(t.Item.Event()), t.Tries}
	}
	s.tried = true
	s.mu.Unlock()
	s.unmark(marked)
	delivery.Signal(s.broker.dirty)
}

// unmark replaces what Mark has saved, if it has.
func (s *session) unmark(marked bool) {
	if !marked {
		return
	}
	if err := s.saveAttempts(true); err != nil {
		s.broker.opts.Logger.Warn("attempts were not saved", "trigger", s.trigger.Name(), "error", err)
	}
}

// Mark implements delivery.Keeper.
func (s *session) Mark(it *item, t delivery.Tries) error {
	s.mu.Lock()
	it.Ref.tries = tries{identity(it.Event()), t}
	s.tried = true
	s.mu.Unlock()
	return s.saveAttempts(true)
}

// saveAttempts saves the attempts if they have changed, and that the session runs or has ended.
func (s *session) saveAttempts(running bool) error {
	s.saving.Lock() // an older state never overwrites a newer one
	defer s.saving.Unlock()
	b := s.takeAttempts(running)
	if b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	err := s.broker.log.SaveAttempts(ctx, s.trigger.Name(), b)
	if err != nil {
		s.mu.Lock()
		s.tried = true
		s.mu.Unlock()
	}
	return err
}

// takeAttempts returns the attempts, encoded; nil when they need not be saved. Those that earlier sessions left stay
// until this one has read as far.
func (s *session) takeAttempts(running bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried && running {
		return nil
	}
	s.tried = false
	a := attempts{running: running, deaths: s.before.deaths, upTo: s.before.upTo, tries: map[position]tries{}}
	for p, t := range s.before.tries {
		if p.entry >= s.next || !s.restored {
			a.tries[p] = t
		}
	}
	for _, e := range s.ended {
		a.tries[e.position] = e.tries
	}
	for it := s.front; it != nil; it = it.Ref.next {
		if it.Ref.tries.Attempts > 0 {
			a.tries[it.Ref.position] = it.Ref.tries
		}
	}
	return a.encode()
}

const attemptsVersion = 1

func (a attempts) encode() []byte {
	b := make([]byte, 0, 16+12*len(a.tries))
	b = append(b, attemptsVersion, 0)
	if a.running {
		b[1] = 1
	}
	b = binary.AppendUvarint(b, uint64(a.deaths))
	b = binary.AppendUvarint(b, a.upTo)
	b = binary.AppendUvarint(b, uint64(len(a.tries)))
	for p, t := range a.tries {
		b = binary.AppendUvarint(b, p.entry)
		b = binary.AppendUvarint(b, uint64(p.index))
		b = binary.LittleEndian.AppendUint32(b, t.id)
		b = binary.AppendUvarint(b, uint64(t.Attempts))
		if t.Begun {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// decodeAttempts decodes what encode returned; no bytes are no attempts.
func decodeAttempts(b []byte) (a attempts, err error) {
	a.tries = map[position]tries{}
	if len(b) == 0 {
		return a, nil
	}
	if len(b) < 2 || b[0] != attemptsVersion {
		return a, fmt.Errorf("attempts of %d bytes are of no known version", len(b))
	}
	a.running = b[1] == 1
	b = b[2:]
	next := func() (v uint64) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = fmt.Errorf("attempts are cut short"), nil
			return 0
		}
		b = b[n:]
		return v
	}
	a.deaths, a.upTo = int(next()), next()
	for n := next(); n > 0 && err == nil; n-- {
		p := position{next(), int(next())}
		var t tries
		if len(b) < 4 {
			return a, fmt.Errorf("attempts are cut short")
		}
		t.id, b = binary.LittleEndian.Uint32(b), b[4:]
		t.Attempts, t.Begun = int(next()), next() == 1
		a.tries[p] = t
	}
	return a, err
}
