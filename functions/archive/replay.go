package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// most bounds what one unit of work says again.
const most = 500

// progress is where a replay goes on: what a cursor holds.
type progress struct {
	Next  int64 `json:"next"`
	Last  int64 `json:"last"`
	Open  bool  `json:"open,omitempty"` // Last is where the log ends, and moves with it
	Count int   `json:"count"`

	Asked time.Time `json:"asked,omitzero"` // none: the replay does not go up to the present
}

// ending is a replay up to the present that has ended. Whoever asked for it may have had events before that reach the
// archive only now, and would miss them: they are said again when they come.
type ending struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Types   []string  `json:"types,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Asked   time.Time `json:"asked"`
}

// An ending is remembered for so long, and at most so many are. Clocks may differ by apart.
const (
	endingKept = 24 * time.Hour
	endingMost = 8
	apart      = 5 * time.Minute
)

// ended remembers that a replay has ended.
func (a *archive) ended(ctx context.Context, tx *function.Tx, e ending) error {
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return err
	}
	known := []ending{e}
	for _, o := range h.Replays {
		if o.ID != e.ID && tx.Now().Sub(o.Asked) < endingKept && len(known) < endingMost {
			known = append(known, o)
		}
	}
	h.Replays = known
	return a.heads.Put(ctx, tx, headID, h)
}

// late says an event again, to those whose replay ended before it came and began after it was said.
func (a *archive) late(h head, tx *function.Tx, e ce.Event) {
	for _, r := range h.Replays {
		c := choice{subject: r.Subject, types: r.Types}
		if e.Time().After(r.Asked.Add(apart)) || !c.takes(stored{about: about{Subject: e.Subject(), Type: e.Type()}}) || !a.playable(e) {
			continue
		}
		again(tx, e.Clone(), r.To, r.ID)
	}
}

// playable reports whether a consumer can take the event: one that does not conform to its schema is a dead letter wherever
// it arrives, and a consumer that counts what was replayed would wait for it for ever.
func (a *archive) playable(e ce.Event) bool {
	info, known := a.types().Lookup(e.Type())
	return e.Type() != event.ArchiveReplay.Name() && (!known || info.Check(e.Data()) == nil)
}

func (p progress) cursor() string {
	data, _ := json.Marshal(p) // numbers always marshal
	return base64.RawURLEncoding.EncodeToString(data)
}

func parseCursor(cursor string) (progress, error) {
	var p progress
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil || p.Next < 1 || p.Last < 0 || p.Count < 0 {
		return p, fault.New(fault.Invalid, "the cursor of the replay is not one of ours")
	}
	return p, nil
}

// replay says one portion of a replay, and then a command for the next or that it is done.
func (a *archive) replay(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents) error {
	if cmd.To == "archive" {
		return fault.New(fault.Invalid, "the archive has no use for a replay")
	}
	p, err := a.begin(ctx, tx, cmd)
	if err != nil {
		return err
	}
	if p.Open {
		if p.Last, err = a.end(ctx, tx); err != nil {
			return err
		}
	}
	// The command is an event like any other. It is kept only after the end of the log was noted, and never replayed.
	if err := a.keep(ctx, tx, tx.Event()); err != nil {
		return err
	}
	found, err := a.read(ctx, tx, choice{subject: cmd.Subject, types: cmd.Types}, span{p.Next, p.Last}, false, most)
	if err != nil {
		return err
	}
	for _, e := range found.events {
		said, err := parse(e.Event)
		if err != nil {
			return err
		}
		if !a.playable(said) {
			continue
		}
		again(tx, said, cmd.To, cmd.ReplayID)
		p.Count++
	}
	if found.rest.empty() {
		tx.Emit(event.ArchiveReplayed.New(cmd.ReplayID, event.FinishedReplay{ReplayID: cmd.ReplayID, To: cmd.To, Count: p.Count}))
		if p.Asked.IsZero() {
			return nil
		}
		return a.ended(ctx, tx, ending{ID: cmd.ReplayID, To: cmd.To, Types: cmd.Types, Subject: cmd.Subject, Asked: p.Asked})
	}
	p.Next = found.rest.first
	cmd.Cursor = p.cursor()
	tx.Emit(event.ArchiveReplay.New(cmd.ReplayID, cmd))
	return nil
}

// begin is where the portion starts.
func (a *archive) begin(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents) (progress, error) {
	if cmd.Cursor != "" {
		return parseCursor(cmd.Cursor)
	}
	s, err := a.between(ctx, tx, cmd.Since, cmd.Until)
	p := progress{Next: s.first, Last: s.last, Open: cmd.Until.IsZero()}
	if p.Open {
		p.Asked = tx.Event().Time()
	}
	return p, err
}

// sayAgain publishes a past event for one function alone, with its own id and source. No replay named: with effects.
func sayAgain(tx *function.Tx, data json.RawMessage, to, replay string) error {
	e, err := parse(data)
	if err == nil {
		again(tx, e, to, replay)
	}
	return err
}

func parse(data json.RawMessage) (ce.Event, error) {
	e, err := event.FromJSON(data)
	if err != nil {
		return e, fault.Wrap(err, fault.Internal, "decode a kept event")
	}
	return e, nil
}

func again(tx *function.Tx, e ce.Event, to, replay string) {
	e.SetExtension(event.ReplayTo, to)
	if replay != "" {
		e.SetExtension(event.Replay, replay)
	}
	tx.EmitRaw(e)
}

type replayInput struct {
	Body struct {
		To      string    `json:"to" minLength:"1" maxLength:"100" pattern:"^[a-z0-9-]+$" doc:"The function that is to hear it."`
		Types   []string  `json:"types,omitempty" maxItems:"100" doc:"None: every type."`
		Since   time.Time `json:"since,omitzero" required:"false" doc:"Events that came at this time or later."`
		Until   time.Time `json:"until,omitzero" required:"false" doc:"Events that came before this time."`
		Subject string    `json:"subject,omitempty" maxLength:"200"`
	}
}

type replayOutput struct {
	Body struct {
		ReplayID string `json:"replay_id"`
	}
}

// startReplay asks for a replay, as any function may by the same command.
func (a *archive) startReplay(_ context.Context, tx *function.Tx, in *replayInput) (*replayOutput, error) {
	if in.Body.To == "archive" {
		return nil, fault.New(fault.Invalid, "the archive has no use for a replay")
	}
	out := &replayOutput{}
	out.Body.ReplayID = tx.NewID()
	tx.Emit(event.ArchiveReplay.New(out.Body.ReplayID, event.ReplayEvents{
		ReplayID: out.Body.ReplayID, To: in.Body.To, Types: in.Body.Types, Since: in.Body.Since, Until: in.Body.Until, Subject: in.Body.Subject,
	}))
	return out, nil
}
