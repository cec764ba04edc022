package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"sort"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
)

// Older versions of the archive counted their events from 1 on without gaps, in the collection events. The id of a
// document is its position. While one of them runs beside this version it appends there and writes the head; both see
// the endings of replays in it. A replay that an older version carries on does not read the log: docs/deploy.md says
// what an update does about that.

// countedEvent is an event as older versions stored it.
type countedEvent struct {
	Position      int64           `json:"position"`
	At            string          `json:"at"`
	ID            string          `json:"id"`
	Source        string          `json:"source"`
	Type          string          `json:"type"`
	Subject       string          `json:"subject,omitempty"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	CausationID   string          `json:"causation_id,omitempty"`
	Time          time.Time       `json:"time,omitzero"`
	Event         json.RawMessage `json:"event"`
}

// countedSince returns the first n whose event arrived at the time or later; end+1 when none did.
func (a *archive) countedSince(
	ctx context.Context, tx store.Transactor, t time.Time, end int64,
) (int64, error) {
	var failed error
	at := sortableTime(t)
	n := sort.Search(int(end), func(i int) bool {
		if failed != nil {
			return true
		}
		d, err := tx.StoreTx().Get(ctx, a.counted.Key(string(counted(int64(i)+1))))
		failed = err
		e, _ := decodeCounted(d)
		return e.At >= at
	})
	return int64(n) + 1, failed
}

// countedPage does for counted events what page does.
func (a *archive) countedPage(
	ctx context.Context, tx store.Transactor, c criteria, s span, desc bool, size int,
) ([]stored, span, error) {
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return nil, s, err
	}
	first, last := int64(1), h.Position
	if n, ok := position(s.first).count(); ok {
		first = max(first, n)
	}
	if n, ok := position(s.end).count(); ok {
		last = min(last, n-1)
	}
	none := span{endless, endless}
	if first > last {
		return nil, none, nil
	}
	if index := c.index(); index != nil {
		q := store.Query{Collection: a.counted.Spec().Name, Limit: size,
			Where: append(index, store.Filter{Field: "position", Op: store.GreaterOrEqual, Value: first},
				store.Filter{Field: "position", Op: store.LessOrEqual, Value: last}),
			Order: []store.Order{{Field: "position", Desc: desc}},
		}
		docs, more, err := tx.StoreTx().Query(ctx, q)
		page, err := decodeAll(docs, err)
		if err != nil || !more {
			return page, none, err
		}
		return page, s.without(page[len(page)-1].Position, desc), nil
	}
	docs, err := a.consecutive(ctx, tx, first, last, desc, size)
	page, err := decodeAll(docs, err)
	switch {
	case err != nil:
		return nil, s, err
	case desc:
		return page, span{s.first, string(counted(max(first, last-int64(size)+1)))}, nil
	case first+int64(size) > last:
		return page, none, nil
	}
	return page, span{string(counted(first + int64(size))), s.end}, nil
}

// consecutive returns counted events, all of them: there are no gaps, so it needs no index.
func (a *archive) consecutive(
	ctx context.Context, tx store.Transactor, first, last int64, desc bool, size int,
) ([]store.Document, error) {
	if !desc {
		docs, _, err := tx.StoreTx().Query(ctx, store.Query{
			Collection: a.counted.Spec().Name, Limit: int(min(int64(size), last-first+1)),
			After: &store.Position{ID: string(counted(first - 1))},
		})
		return docs, err
	}
	var keys []store.Key
	for n := last; n >= max(first, last-int64(size)+1); n-- {
		keys = append(keys, a.counted.Key(string(counted(n))))
	}
	if err := tx.StoreTx().Load(ctx, keys...); err != nil {
		return nil, err
	}
	docs := make([]store.Document, 0, len(keys))
	for _, k := range keys {
		d, err := tx.StoreTx().Get(ctx, k)
		if err != nil {
			return nil, err
		}
		if d.Version > 0 {
			docs = append(docs, d)
		}
	}
	return docs, nil
}

func decodeAll(docs []store.Document, err error) ([]stored, error) {
	page := make([]stored, len(docs))
	for i, d := range docs {
		if err == nil {
			page[i], err = decodeCounted(d)
		}
	}
	return page, err
}

// decodeCounted returns the event of a document that an older version wrote. It wrote data that is not JSON into the
// document as it was, which then is not JSON either, and data of a type with +json as a string.
func decodeCounted(d store.Document) (stored, error) {
	e, err := decode(d)
	switch {
	case d.Version == 0:
		return stored{}, nil
	case err != nil:
		if e, ok := salvage(d.Data); ok {
			return e, nil
		}
		return e, err
	case bytes.Contains(e.Event, []byte("+json")):
		e.Event = unquoted(e.Event)
	}
	return e, nil
}

// salvage returns the event of a document whose data is in it as it was: the data is what stands between the attributes
// and the extensions.
func salvage(document []byte) (e stored, ok bool) {
	head, text, ok := bytes.Cut(bytes.TrimSuffix(document, []byte("}")), []byte(`,"event":`))
	if !ok || json.Unmarshal(append(bytes.Clone(head), '}'), &e) != nil {
		return e, false
	}
	attributes, rest, ok := bytes.Cut(bytes.TrimSuffix(text, []byte("}")), []byte(`,"data":`))
	if !ok {
		return e, false
	}
	data, extensions := rest, []byte(nil)
	for i := max(0, len(rest)-maxExtensions); i < len(rest); i++ {
		if rest[i] == ',' && json.Valid(append(append([]byte{'{'}, rest[i+1:]...), '}')) {
			data, extensions = rest[:i], rest[i:]
			break
		}
	}
	past, err := event.FromJSON(append(append(bytes.Clone(attributes), extensions...), '}'))
	if err != nil {
		return e, false
	}
	past.DataEncoded = data
	e.Event, err = event.ToJSON(past)
	return e, err == nil
}

// maxExtensions is how many bytes the extensions of an event have at most that salvage finds.
const maxExtensions = 4096

// unquoted returns an event whose data is a string of JSON with the JSON itself as its data.
func unquoted(text json.RawMessage) json.RawMessage {
	e, err := event.FromJSON(text)
	var data string
	if err != nil || e.DataBase64 || json.Unmarshal(e.DataEncoded, &data) != nil || !json.Valid([]byte(data)) {
		return text
	}
	e.DataEncoded = []byte(data)
	if again, err := event.ToJSON(e); err == nil {
		return again
	}
	return text
}
