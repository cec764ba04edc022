package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// The states of a dead letter.
const (
	waiting  = "waiting"  // an administrator has to handle it
	replayed = "replayed" // it was sent again, and has not failed again
	dropped  = "dropped"  // it is not shown any more, and only known for as long as its delivery may come once more
)

// droppedRetention is how long a dropped dead letter is known: longer than any broker repeats a delivery, as in the
// inbox.
const droppedRetention = 72 * time.Hour

// replayedRetention is how long a dead letter is stored that was sent again and has not failed since.
const replayedRetention = 30 * 24 * time.Hour

// letter is an event that a subscriber did not accept after all retries.
type letter struct {
	State      string          `json:"state"`
	At         string          `json:"at"` // when it failed last; see sortableTime
	FirstAt    string          `json:"first_at"`
	ReplayedAt time.Time       `json:"replayed_at,omitzero"`
	Times      int             `json:"times"`
	Subscriber string          `json:"subscriber"`
	Function   string          `json:"function"`
	Code       string          `json:"code,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Mended     bool            `json:"mended,omitempty"`
	Type       string          `json:"type"`
	Event      json.RawMessage `json:"event"` // without the extensions of a dead letter

	Replays int       `json:"replays,omitempty"` // how often it was sent again
	Failed  int       `json:"failed,omitempty"`  // which of these has failed last; 0: the first delivery
	Parts   int       `json:"parts,omitempty"`   // of the event, which is null then; see parts.go
	Expires time.Time `json:"expires,omitzero"`  // when one that was sent again or dropped is forgotten
}

// deadLetter stores a dead letter. The same event for the same subscriber is one entry, which counts the failures.
//
// The broker delivers a dead letter at least once. What is sent again carries its number (extension ebbreplaynumber),
// so a failure that is known already changes nothing: it neither undoes a mend nor makes a letter wait that was sent
// again or dropped since. The event of a known letter stays, because it may be mended.
func (a *archive) deadLetter(ctx context.Context, tx *function.Tx, e ce.Event) error {
	subscriber := event.Extension(e, broker.ErrorDest)
	l := letter{State: waiting, At: sortableTime(tx.Now()), Subscriber: subscriber, Function: functionOf(subscriber),
		Code: event.Extension(e, broker.ErrorCode), Reason: reasonOf(event.Extension(e, broker.ErrorData)), Type: e.Type()}
	plain := e.Clone()
	for _, name := range []string{broker.ErrorDest, broker.ErrorCode, broker.ErrorData, event.ReplayNumber} {
		plain.SetExtension(name, nil)
	}
	plain, err := a.detachKey(ctx, tx, plain)
	if err != nil {
		return err
	}
	data, err := event.ToJSON(plain)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "the event cannot be written as JSON")
	}
	l.Event = data
	id := letterID(subscriber, e)
	known, exists, err := a.dead.Find(ctx, tx, id)
	if err == nil {
		known, err = a.joinLetter(ctx, tx, id, known)
	}
	if err != nil {
		return err
	}
	l.Parts = known.Parts
	l.FirstAt, l.Times, l.Mended, l.Replays = known.FirstAt, known.Times+1, known.Mended, known.Replays
	l.Failed, _ = strconv.Atoi(event.Extension(e, event.ReplayNumber)) // none: the first delivery
	switch {
	case !exists:
		l.FirstAt = l.At
	case known.State == replayed && l.Failed == 0 && event.Extension(e, event.ReplayTo) != "" &&
		event.Extension(e, event.Replay) == "": // an older version has sent it again
		l.Failed = known.Failed + 1
		l.Event = known.Event
	case l.Failed <= known.Failed:
		return nil
	case known.State != dropped:
		l.Event = known.Event
	}
	return a.putLetter(ctx, tx, id, l)
}

// reasonOf returns the text of knativeerrordata. Knative's brokers encode it in base64 and Ebb's do not, and nothing
// tells which one has: what decodes to text is decoded, which a sentence does not.
func reasonOf(data string) string {
	text, err := base64.StdEncoding.Strict().DecodeString(data)
	if err != nil || len(text) == 0 {
		return data
	}
	for len(text) > 0 && !utf8.Valid(text[max(0, len(text)-utf8.UTFMax):]) && !utf8.Valid(text) && len(data) >= maxReason {
		text = text[:len(text)-1] // the broker has cut the last character
	}
	if !utf8.Valid(text) || bytes.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) && !strings.ContainsRune("\r\n\t", r)
	}) {
		return data
	}
	return string(text)
}

// maxReason is about the length from which on brokers cut knativeerrordata, in bytes.
const maxReason = 1000

func letterID(subscriber string, e ce.Event) string {
	sum := sha256.Sum256([]byte(subscriber + "\x00" + e.Source() + "\x00" + e.ID()))
	return hex.EncodeToString(sum[:16]) // hexadecimal, so that it never begins with a dash as an option does
}

// functionOf returns the function of a subscriber: the last part of a path such as /functions/payments, or the first
// label of a host, as in the address of a service in a cluster.
func functionOf(subscriber string) string {
	if u, err := url.Parse(subscriber); err == nil && u.Host != "" {
		name, _, _ := strings.Cut(u.Hostname(), ".")
		return name
	}
	return path.Base(subscriber)
}

// DeadLetter is the API's form of a dead letter.
type DeadLetter struct {
	ID         string          `json:"id"`
	State      string          `json:"state" enum:"waiting,replayed"`
	At         string          `json:"at" format:"date-time" doc:"When it failed last."`
	FirstAt    string          `json:"first_at" format:"date-time"`
	ReplayedAt time.Time       `json:"replayed_at,omitzero"`
	Times      int             `json:"times" doc:"How often it became a dead letter."`
	Subscriber string          `json:"subscriber"`
	Function   string          `json:"function"`
	Code       string          `json:"code,omitempty" doc:"The last status code of the subscriber."`
	Reason     string          `json:"reason,omitempty"`
	Mended     bool            `json:"mended,omitempty"`
	Event      json.RawMessage `json:"event" doc:"The CloudEvent in structured JSON."`
}

func (l letter) shown(id string) DeadLetter {
	return DeadLetter{
		ID: id, State: l.State, At: l.At, FirstAt: l.FirstAt, ReplayedAt: l.ReplayedAt, Times: l.Times,
		Subscriber: l.Subscriber, Function: l.Function, Code: l.Code, Reason: l.Reason, Mended: l.Mended, Event: l.Event,
	}
}

// listDeadInput has larger pages than function.Paging.
type listDeadInput struct {
	State  string `query:"state" enum:"waiting,replayed" default:"waiting" doc:"Only dead letters in the state."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most entries of a page."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}

func (a *archive) listDead(
	ctx context.Context, tx *function.Tx, in *listDeadInput,
) (*function.Page[DeadLetter], error) {
	page, err := a.dead.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "state", Op: store.Equal, Value: in.State}},
		Order: []store.Order{{Field: "at", Desc: true}},
		Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	for i, item := range page.Items {
		if page.Items[i].Value, err = a.joinLetter(ctx, tx, item.ID, item.Value); err != nil {
			return nil, err
		}
	}
	return function.PageOf(page, func(item store.Item[letter]) DeadLetter { return item.Value.shown(item.ID) }), nil
}

type deadInput struct {
	ID string `path:"id" maxLength:"100" doc:"The dead letter's id."`
}

type deadOutput struct{ Body DeadLetter }

func (a *archive) find(ctx context.Context, tx *function.Tx, id string) (letter, error) {
	l, ok, err := a.dead.Find(ctx, tx, id)
	if err == nil && (!ok || l.State == dropped) {
		err = fault.New(fault.NotFound, "there is no such dead letter")
	}
	if err != nil {
		return l, err
	}
	return a.joinLetter(ctx, tx, id, l)
}

func (a *archive) getDead(ctx context.Context, tx *function.Tx, in *deadInput) (*deadOutput, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &deadOutput{l.shown(in.ID)}, nil
}

type mendInput struct {
	ID   string `path:"id" maxLength:"100" doc:"The dead letter's id."`
	Body struct {
		Data json.RawMessage `json:"data" doc:"The whole new data of the event."`
	}
}

// mendDead replaces the data of a dead letter. The new data must conform to the schema of the event's type. Personal
// fields are shown as placeholders: one that still has its placeholder keeps its value, see withData.
func (a *archive) mendDead(ctx context.Context, tx *function.Tx, in *mendInput) (*deadOutput, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	e, err := event.FromJSON(l.Event)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode a dead letter")
	}
	if err := byFunctionsOnly(e.Type()); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, in.Body.Data); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the data is not JSON")
	}
	if info, known := a.types().Lookup(e.Type()); known {
		if err := info.Check(compact.Bytes()); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the data does not conform to its schema: %v", err)
		}
		e, err = a.withData(ctx, tx, e, info, compact.Bytes())
	} else {
		e, err = withJSON(e, compact.Bytes())
	}
	if err != nil {
		return nil, err
	}
	if l.Event, err = event.ToJSON(e); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode a dead letter")
	}
	l.Mended = true
	return &deadOutput{l.shown(in.ID)}, a.putLetter(ctx, tx, in.ID, l)
}

// replayDead sends the event to the function that failed, with its original id, so that the function's inbox drops it
// if the function has handled it since, and with side effects. An event that was part of a replay stays part of it.
func (a *archive) replayDead(ctx context.Context, tx *function.Tx, in *deadInput) (*deadOutput, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	e, err := a.parseWhole(ctx, tx, l.Event)
	if err != nil {
		return nil, err
	}
	l.State, l.ReplayedAt, l.Replays = replayed, tx.Now(), max(l.Replays, l.Failed)+1
	l.Expires = tx.Now().Add(replayedRetention)
	e.SetExtension(event.ReplayNumber, l.Replays)
	publishTo(tx, e, l.Function, "")
	return &deadOutput{l.shown(in.ID)}, a.putLetter(ctx, tx, in.ID, l)
}

func (a *archive) dropDead(ctx context.Context, tx *function.Tx, in *deadInput) (*struct{}, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	l.State, l.Event, l.Reason, l.Mended = dropped, json.RawMessage("null"), "", false
	l.Expires = tx.Now().Add(droppedRetention)
	return nil, a.putLetter(ctx, tx, in.ID, l)
}
