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

// maxReplayed is the most events that one unit of work replays.
const maxReplayed = 500

// progress is the position of a replay. The cursor of the command holds it.
type progress struct {
	Next  int64 `json:"next"`
	Last  int64 `json:"last"`
	Open  bool  `json:"open,omitempty"` // Last is the end of the log, and grows with it
	Count int   `json:"count"`

	Asked time.Time `json:"asked,omitzero"` // zero: the replay has an end before the present
}

// ending is a replay up to the present that has ended. An event from before the replay may reach the archive only after
// it; such an event is replayed when it arrives.
type ending struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Types   []string  `json:"types,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Asked   time.Time `json:"asked"`
}

// How long endings are stored, how many, and by how much clocks may differ.
const (
	endingRetention = 24 * time.Hour
	maxEndings      = 8
	maxClockSkew    = 5 * time.Minute
)

// saveEnding stores that a replay has ended.
func (a *archive) saveEnding(ctx context.Context, tx *function.Tx, e ending) error {
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return err
	}
	known := []ending{e}
	for _, o := range h.Replays {
		if o.ID != e.ID && tx.Now().Sub(o.Asked) < endingRetention && len(known) < maxEndings {
			known = append(known, o)
		}
	}
	h.Replays = known
	return a.heads.Put(ctx, tx, headID, h)
}

// replayLate replays an event to each function whose replay has ended, but was requested after the event happened.
func (a *archive) replayLate(h head, tx *function.Tx, e ce.Event) {
	for _, r := range h.Replays {
		c := criteria{subject: r.Subject, types: r.Types}
		selected := c.match(stored{attributes: attributes{Subject: e.Subject(), Type: e.Type()}})
		if e.Time().After(r.Asked.Add(maxClockSkew)) || !selected || !a.playable(e) {
			continue
		}
		publishTo(tx, e.Clone(), r.To, r.ID)
	}
}

// playable reports whether the event can be replayed. An event that does not conform to its schema would become a dead
// letter, and a consumer that counts the replayed events would wait for it for ever.
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
		return p, fault.New(fault.Invalid, "invalid cursor of the replay")
	}
	return p, nil
}

// replay publishes one portion of a replay, and then the command for the next portion or archive.replayed.
func (a *archive) replay(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents) error {
	if cmd.To == "archive" {
		return fault.New(fault.Invalid, "events cannot be replayed to the archive")
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
	// The command is stored as every event is, but after the end of the log was read. It is never replayed.
	if err := a.store(ctx, tx, tx.Event()); err != nil {
		return err
	}
	found, err := a.read(
		ctx, tx, criteria{subject: cmd.Subject, types: cmd.Types}, span{p.Next, p.Last}, false, maxReplayed,
	)
	if err != nil {
		return err
	}
	for _, e := range found.events {
		past, err := a.parseWhole(ctx, tx, e.Event)
		if err != nil {
			return err
		}
		if !a.playable(past) {
			continue
		}
		publishTo(tx, past, cmd.To, cmd.ReplayID)
		p.Count++
	}
	if found.rest.empty() {
		tx.Emit(
			event.ArchiveReplayed.New(cmd.ReplayID, event.FinishedReplay{ReplayID: cmd.ReplayID, To: cmd.To, Count: p.Count}),
		)
		if p.Asked.IsZero() {
			return nil
		}
		return a.saveEnding(
			ctx, tx, ending{ID: cmd.ReplayID, To: cmd.To, Types: cmd.Types, Subject: cmd.Subject, Asked: p.Asked},
		)
	}
	p.Next = found.rest.first
	cmd.Cursor = p.cursor()
	tx.Emit(event.ArchiveReplay.New(cmd.ReplayID, cmd))
	return nil
}

// begin returns the progress from which the portion starts.
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

// publishAgain publishes a past event to one function only, with its original id and source. With an empty replay its
// side effects happen.
func (a *archive) publishAgain(
	ctx context.Context, tx *function.Tx, data json.RawMessage, to, replay string,
) error {
	e, err := a.parseWhole(ctx, tx, data)
	if err == nil {
		publishTo(tx, e, to, replay)
	}
	return err
}

func parse(data json.RawMessage) (ce.Event, error) {
	e, err := event.FromJSON(data)
	if err != nil {
		return e, fault.Wrap(err, fault.Internal, "decode a stored event")
	}
	return e, nil
}

// publishTo publishes an event that only one function receives.
func publishTo(tx *function.Tx, e ce.Event, to, replay string) {
	e.SetExtension(event.ReplayTo, to)
	if replay != "" {
		e.SetExtension(event.Replay, replay)
	}
	tx.EmitRaw(e)
}

type replayInput struct {
	Body struct {
		To      string    `json:"to" minLength:"1" maxLength:"100" pattern:"^[a-z0-9-]+$" doc:"The receiving function."`
		Types   []string  `json:"types,omitempty" maxItems:"100" doc:"Missing: every type."`
		Since   time.Time `json:"since,omitzero" required:"false" doc:"Events that arrived at this time or later."`
		Until   time.Time `json:"until,omitzero" required:"false" doc:"Events that arrived before this time."`
		Subject string    `json:"subject,omitempty" maxLength:"200"`
	}
}

type replayOutput struct {
	Body struct {
		ReplayID string `json:"replay_id"`
	}
}

// startReplay requests a replay, by the same command that any function may emit.
func (a *archive) startReplay(_ context.Context, tx *function.Tx, in *replayInput) (*replayOutput, error) {
	if in.Body.To == "archive" {
		return nil, fault.New(fault.Invalid, "events cannot be replayed to the archive")
	}
	out := &replayOutput{}
	out.Body.ReplayID = tx.NewID()
	tx.Emit(event.ArchiveReplay.New(out.Body.ReplayID, event.ReplayEvents{
		ReplayID: out.Body.ReplayID, To: in.Body.To, Types: in.Body.Types,
		Since: in.Body.Since, Until: in.Body.Until, Subject: in.Body.Subject,
	}))
	return out, nil
}
