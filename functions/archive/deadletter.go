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
	"regexp"
	"strconv"
	"strings"
	"sync"
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
	Subject    string          `json:"subject,omitempty"` // of the event; older versions have not stored it
	Event      json.RawMessage `json:"event"`             // without the extensions of a dead letter

	Replays int       `json:"replays,omitempty"` // how often it was sent again
	Failed  int       `json:"failed,omitempty"`  // which of these has failed last; 0: the first delivery
	Parts   int       `json:"parts,omitempty"`   // of the event, which is null then; see parts.go
	Mend    string    `json:"mend,omitempty"`    // the job that has sent it last; see mends.go
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
		Code: event.Extension(e, broker.ErrorCode), Reason: reasonOf(event.Extension(e, broker.ErrorData)), Type: e.Type(),
		Subject: e.Subject()}
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
	l.Mend = known.Mend
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
	if known.Mend != "" && known.State == replayed {
		if err := a.mendFailed(ctx, tx, id, l); err != nil {
			return err
		}
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
	Cause      string          `json:"cause,omitempty" doc:"The reason without what differs between events: ids, numbers, texts in quotes."`
	Mended     bool            `json:"mended,omitempty"`
	Mend       string          `json:"mend,omitempty" doc:"The id of the mend that has sent it last."`
	Event      json.RawMessage `json:"event" doc:"The CloudEvent in structured JSON."`
}

func (l letter) shown(id string) DeadLetter {
	return DeadLetter{
		ID: id, State: l.State, At: l.At, FirstAt: l.FirstAt, ReplayedAt: l.ReplayedAt, Times: l.Times,
		Subscriber: l.Subscriber, Function: l.Function, Code: l.Code, Reason: l.Reason, Cause: causeOf(l.Reason),
		Mended: l.Mended, Mend: l.Mend, Event: l.Event,
	}
}

// particular is what differs between the reasons of one cause.
var particular = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|"[^"]*"|\b[0-9]+\b`)
})

// causeOf returns a reason without what differs between events.
func causeOf(reason string) string { return particular().ReplaceAllString(reason, "…") }

// listDeadInput has larger pages than function.Paging. A page has about maxPage bytes of events at most.
type listDeadInput struct {
	State  string `query:"state" enum:"waiting,replayed" default:"waiting" doc:"Only dead letters in the state."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most entries of a page."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}

func (a *archive) listDead(
	ctx context.Context, tx *function.Tx, in *listDeadInput,
) (*function.Page[DeadLetter], error) {
	out := &function.Page[DeadLetter]{}
	out.Body.Items, out.Body.Next = []DeadLetter{}, in.Cursor
	size, bytes := firstQuery, 0
	for len(out.Body.Items) < in.Limit {
		page, err := a.dead.Query(ctx, tx, store.Find{
			Where: []store.Filter{{Field: "state", Op: store.Equal, Value: in.State}},
			Order: []store.Order{{Field: "at", Desc: true}},
			Limit: min(size, in.Limit-len(out.Body.Items)), Cursor: out.Body.Next,
		})
		if err != nil {
			return nil, err
		}
		read := 0
		for _, item := range page.Items {
			l, err := a.joinLetter(ctx, tx, item.ID, item.Value)
			if err != nil {
				return nil, err
			}
			if bytes += len(l.Event); bytes > maxPage && len(out.Body.Items) > 0 {
				return out, nil
			}
			read += len(l.Event)
			out.Body.Items = append(out.Body.Items, l.shown(item.ID))
			out.Body.Next = store.EncodeCursor(store.Position{Values: []any{l.At}, ID: item.ID})
		}
		if page.Next == "" {
			out.Body.Next = ""
			break
		}
		size = nextSize(size, len(page.Items), read)
	}
	return out, nil
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
	if l, err = a.withNewData(ctx, tx, l, in.Body.Data); err != nil {
		return nil, err
	}
	return &deadOutput{l.shown(in.ID)}, a.putLetter(ctx, tx, in.ID, l)
}

// withNewData returns a dead letter with other data, which must conform to the schema of the event's type.
func (a *archive) withNewData(
	ctx context.Context, tx store.Transactor, l letter, data json.RawMessage,
) (letter, error) {
	e, err := event.FromJSON(l.Event)
	if err != nil {
		return l, fault.Wrap(err, fault.Internal, "decode a dead letter")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return l, fault.Wrap(err, fault.Invalid, "the data is not JSON")
	}
	if err := a.byFunctionsOnly(e.Type(), compact.Bytes()); err != nil {
		return l, err
	}
	if info, known := a.types().Lookup(e.Type()); known {
		if err := info.Check(compact.Bytes()); err != nil {
			return l, fault.Wrap(err, fault.Invalid, "the data does not conform to its schema: %v", err)
		}
		e, err = a.withData(ctx, tx, e, info, compact.Bytes())
	} else {
		e, err = withJSON(e, compact.Bytes())
	}
	if err != nil {
		return l, err
	}
	if l.Event, err = event.ToJSON(e); err != nil {
		return l, fault.Wrap(err, fault.Internal, "encode a dead letter")
	}
	l.Mended = true
	return l, nil
}

// replayDead sends the event to the function that failed, with its original id, so that the function's inbox drops it
// if the function has handled it since, and with side effects. An event that was part of a replay stays part of it.
func (a *archive) replayDead(ctx context.Context, tx *function.Tx, in *deadInput) (*deadOutput, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	l.Mend = "" // it fails for the person who sends it
	l, err = a.sendAgain(ctx, tx, in.ID, l)
	return &deadOutput{l.shown(in.ID)}, err
}

// sendAgain sends the event of a dead letter to the function that failed, and stores the letter.
func (a *archive) sendAgain(ctx context.Context, tx *function.Tx, id string, l letter) (letter, error) {
	e, err := a.parseWhole(ctx, tx, l.Event)
	if err != nil {
		return l, err
	}
	l.State, l.ReplayedAt, l.Replays = replayed, tx.Now(), max(l.Replays, l.Failed)+1
	l.Expires = tx.Now().Add(replayedRetention)
	e.SetExtension(event.ReplayNumber, l.Replays)
	publishTo(tx, e, l.Function, "")
	return l, a.putLetter(ctx, tx, id, l)
}

func (a *archive) dropDead(ctx context.Context, tx *function.Tx, in *deadInput) (*struct{}, error) {
	l, err := a.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	l.State, l.Event, l.Reason, l.Subject, l.Mended = dropped, json.RawMessage("null"), "", "", false
	l.Expires = tx.Now().Add(droppedRetention)
	return nil, a.putLetter(ctx, tx, in.ID, l)
}
