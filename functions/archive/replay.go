package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// maxReplayed and replayedBytes are the most that one unit of work replays. Its events become one document of the
// outbox, for which a store may have a limit.
const (
	maxReplayed   = 500
	replayedBytes = 256 << 10
)

// progress is the position of a replay. The cursor of the command holds it.
//
// A replay seals the log and reads what was in it. If it goes up to the present, it seals the log again at the end,
// with its ending, and reads in a second pass what was added in the first: the events of the epochs between the two
// seals. All later ones see the ending.
type progress struct {
	Next  position `json:"next"`
	Last  position `json:"last,omitempty"` // the end of the span; "": not known yet
	Open  bool     `json:"open,omitempty"` // it goes up to the present
	Count int      `json:"count"`

	Asked time.Time `json:"asked,omitzero"` // zero: the replay has an end before the present

	Pass    int   `json:"pass,omitempty"`    // 1 or 2; 0: the log is not sealed yet
	After   int64 `json:"after,omitempty"`   // the pass reads epochs after this one
	Epoch   int64 `json:"epoch,omitempty"`   // up to this one
	Sealed  int64 `json:"sealed,omitempty"`  // the time of the seal before the pass
	Counted int64 `json:"counted,omitempty"` // how many events older versions had counted when the pass began
}

// ending is a replay up to the present that has read the log to its end. An event from before the replay may reach the
// archive only after that; such an event is replayed when it arrives.
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

// among returns the endings to store: this one, and the others that are not too old.
func (e ending) among(others []ending, now time.Time) []ending {
	known := []ending{e}
	for _, o := range others {
		if o.ID != e.ID && now.Sub(o.Asked) < endingRetention && len(known) < maxEndings {
			known = append(known, o)
		}
	}
	return known
}

// replayLate replays an event to each function whose replay has ended, but was requested after the event happened. It
// gets the event without the key of a person who is erased, like the log.
func (a *archive) replayLate(ctx context.Context, h head, tx *function.Tx, e ce.Event) error {
	for _, r := range h.Replays {
		types := a.withOlder(r.Types)
		c := criteria{subject: r.Subject, types: types.all}
		selected := c.match(stored{attributes: attributes{Subject: e.Subject(), Type: e.Type()}})
		if e.Time().After(r.Asked.Add(maxClockSkew)) || !selected || types.twice(e) || !a.playable(e) {
			continue
		}
		whole, err := a.attachKey(ctx, tx, e)
		if err != nil {
			return err
		}
		publishTo(tx, whole.Clone(), r.To, r.ID)
	}
	return nil
}

// replayedTypes are the types of a replay: those that were asked for, and all, with the older versions that these read.
type replayedTypes struct{ asked, all []string }

// withOlder returns the types of a replay; none: every type. A function that asks for a type is sent the older versions
// that it reads as that type, by event.Upcast, as the broker sends them to it.
func (a *archive) withOlder(asked []string) replayedTypes {
	types := replayedTypes{asked, asked}
	for _, name := range asked {
		info, known := a.types().Lookup(name)
		if !known {
			continue
		}
		for _, old := range info.Older() {
			if !slices.Contains(types.all, old.Name) {
				types.all = append(slices.Clip(types.all), old.Name)
			}
		}
	}
	return types
}

// twice reports whether the replay has the event in a newer version too, which is sent in place of this one.
func (r replayedTypes) twice(e ce.Event) bool {
	return len(r.asked) > 0 && !slices.Contains(r.asked, e.Type()) &&
		slices.Contains(r.all, event.Extension(e, event.SentAs))
}

// playable reports whether the event can be replayed. An event that does not conform to its schema would become a dead
// letter, and a consumer that counts the replayed events would wait for it for ever.
func (a *archive) playable(e ce.Event) bool {
	info, known := a.types().Lookup(e.Type())
	own := e.Type() == event.ArchiveReplay.Name() || e.Type() == event.ArchiveMend.Name()
	return !own && (!known || info.Check(e.Data()) == nil)
}

func (p progress) cursor() string {
	data, _ := json.Marshal(p) // numbers and texts always marshal
	return base64.RawURLEncoding.EncodeToString(data)
}

// parseCursor returns the progress of a cursor. One that an older version wrote continues with the first pass.
func parseCursor(cursor string) (progress, error) {
	var p progress
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil || p.Next == "" && p.Pass == 0 || p.Count < 0 || p.Pass < 0 || p.Pass > 2 {
		return p, fault.New(fault.Invalid, "invalid cursor of the replay")
	}
	if n, ok := p.Last.count(); ok && p.Pass == 0 {
		p.Last = counted(n + 1)
		if p.Open {
			p.Last = ""
		}
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
	if err := a.store(ctx, tx, tx.Event()); err != nil { // the command is stored as every event is, and never replayed
		return err
	}
	if p.Pass == 0 {
		p.Pass, p.After = 1, -1
		if p.Epoch, p.Sealed, err = a.seal(ctx, tx, nil); err != nil {
			return err
		}
		return a.proceed(tx, cmd, p)
	}
	if err := a.bound(ctx, tx, &p); err != nil {
		return err
	}
	if err := a.replayPortion(ctx, tx, cmd, &p); err != nil {
		return err
	}
	switch {
	case p.Next < p.Last:
	case p.Open && p.Pass == 1:
		if err := a.secondPass(ctx, tx, cmd, &p); err != nil {
			return err
		}
	default:
		tx.Emit(
			event.ArchiveReplayed.New(cmd.ReplayID, event.FinishedReplay{ReplayID: cmd.ReplayID, To: cmd.To, Count: p.Count}),
		)
		return nil
	}
	return a.proceed(tx, cmd, p)
}

// proceed emits the command for the next portion.
func (a *archive) proceed(tx *function.Tx, cmd event.ReplayEvents, p progress) error {
	cmd.Cursor = p.cursor()
	tx.Emit(event.ArchiveReplay.New(cmd.ReplayID, cmd))
	return nil
}

// bound sets the end of a pass that goes up to the end of the log. The log was sealed in an earlier unit, so every
// event of the pass is in it.
func (a *archive) bound(ctx context.Context, tx *function.Tx, p *progress) error {
	if p.Last != "" {
		return nil
	}
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return err
	}
	end, err := a.last(ctx, tx)
	if end != "" {
		end = position(end.next())
	}
	p.Counted, p.Last = h.Position, max(end, p.Next)
	return err
}

// replayPortion publishes the next events of the pass.
func (a *archive) replayPortion(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents, p *progress) error {
	types := a.withOlder(cmd.Types)
	c := criteria{subject: cmd.Subject, types: types.all, epochs: &epochs{p.After, p.Epoch}}
	if p.Pass == 2 {
		c.floor = from(time.Unix(0, p.Sealed))
	}
	l := limits{tx.StoreTx().Portion(maxReplayed), replayedBytes}
	found, err := a.read(ctx, tx, c, span{string(p.Next), string(p.Last)}, false, l)
	if err != nil {
		return err
	}
	for _, e := range found.events {
		past, err := a.parseWhole(ctx, tx, e.Event)
		if err != nil {
			return err
		}
		if e.torn || types.twice(past) || !a.playable(past) {
			continue
		}
		publishTo(tx, past, cmd.To, cmd.ReplayID)
		p.Count++
	}
	p.Next = position(found.rest.first)
	if found.rest.empty() {
		p.Next = p.Last
	}
	return nil
}

// secondPass seals the log with the ending of the replay, and begins the pass over what was added since the first seal.
func (a *archive) secondPass(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents, p *progress) error {
	first, sealed := p.Epoch, p.Sealed
	e := ending{ID: cmd.ReplayID, To: cmd.To, Types: cmd.Types, Subject: cmd.Subject, Asked: p.Asked}
	epoch, _, err := a.seal(ctx, tx, &e)
	p.Pass, p.After, p.Epoch, p.Sealed, p.Last = 2, first, epoch, sealed, ""
	p.Next = counted(p.Counted + 1) // an older version may have appended beside this one
	return err
}

// begin returns the progress from which the portion starts.
func (a *archive) begin(ctx context.Context, tx *function.Tx, cmd event.ReplayEvents) (progress, error) {
	if cmd.Cursor != "" {
		return parseCursor(cmd.Cursor)
	}
	s, err := a.between(ctx, tx, cmd.Since, cmd.Until)
	p := progress{Next: max(position(s.first), counted(1)), Open: cmd.Until.IsZero()}
	if p.Open {
		p.Asked = tx.Event().Time()
	} else {
		p.Last = position(s.end)
	}
	return p, err
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
