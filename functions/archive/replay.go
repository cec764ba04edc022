package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// most bounds what one unit of work says again.
const most = 500

// progress is where a replay goes on: what a cursor holds.
type progress struct {
	Next  int64 `json:"next"`
	Last  int64 `json:"last"`
	Open  bool  `json:"open,omitempty"` // Last was where the log ended, and may be looked at once more
	Count int   `json:"count"`
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
func (a *archive) replay(ctx context.Context, tx *function.Tx, cmd events.ReplayEvents) error {
	if cmd.To == "archive" {
		return fault.New(fault.Invalid, "the archive has no use for a replay")
	}
	p, err := a.begin(ctx, tx, cmd)
	if err != nil {
		return err
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
		if e.Type == events.ArchiveReplay.Name() {
			continue
		}
		if err := sayAgain(tx, e.Event, cmd.To, cmd.ReplayID); err != nil {
			return err
		}
		p.Count++
	}
	p.Next = found.rest.first
	if found.rest.empty() {
		p.Next = p.Last + 1
		if !p.Open {
			tx.Emit(events.ArchiveReplayed.New(cmd.ReplayID, events.FinishedReplay{ReplayID: cmd.ReplayID, To: cmd.To, Count: p.Count}))
			return nil
		}
		if p.Last, err = a.end(ctx, tx); err != nil {
			return err
		}
		p.Open = false
	}
	cmd.Cursor = p.cursor()
	tx.Emit(events.ArchiveReplay.New(cmd.ReplayID, cmd))
	return nil
}

// begin is where the portion starts.
func (a *archive) begin(ctx context.Context, tx *function.Tx, cmd events.ReplayEvents) (progress, error) {
	if cmd.Cursor != "" {
		return parseCursor(cmd.Cursor)
	}
	s, err := a.between(ctx, tx, cmd.Since, cmd.Until)
	return progress{Next: s.first, Last: s.last, Open: cmd.Until.IsZero()}, err
}

// sayAgain publishes a past event for one function alone, with its own id and source. No replay named: with effects.
func sayAgain(tx *function.Tx, data json.RawMessage, to, replay string) error {
	var e event.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return fault.Wrap(err, fault.Internal, "decode a kept event")
	}
	e.SetExtension(function.ReplayTo, to)
	if replay != "" {
		e.SetExtension(function.Replay, replay)
	}
	tx.EmitRaw(e)
	return nil
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
	tx.Emit(events.ArchiveReplay.New(out.Body.ReplayID, events.ReplayEvents{
		ReplayID: out.Body.ReplayID, To: in.Body.To, Types: in.Body.Types, Since: in.Body.Since, Until: in.Body.Until, Subject: in.Body.Subject,
	}))
	return out, nil
}
