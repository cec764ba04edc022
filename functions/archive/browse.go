package archive

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// Item is a stored event: a CloudEvent in structured JSON, with its position in the log.
type Item struct {
	Position   string          `json:"position" doc:"The place in the order of arrival, in hexadecimal."`
	ArchivedAt string          `json:"archived_at" format:"date-time"`
	Event      json.RawMessage `json:"event" doc:"The CloudEvent in structured JSON."`
}

func (e stored) item() Item { return Item{Position: key(e.Position), ArchivedAt: e.At, Event: e.Event} }

// listInput has larger pages than function.Paging.
type listInput struct {
	Subject     string    `query:"subject" maxLength:"200" doc:"Only events about this entity."`
	Type        string    `query:"type" maxLength:"200"`
	Correlation string    `query:"correlation" maxLength:"200"`
	Since       time.Time `query:"since" doc:"Only events that arrived at this time or later."`
	Until       time.Time `query:"until" doc:"Only events that arrived before this time."`
	Order       string    `query:"order" enum:"asc,desc" default:"asc"`
	Limit       int       `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor      string    `query:"cursor" maxLength:"100" doc:"The next of the page before."`
}

// list returns a page of the log.
func (a *archive) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Item], error) {
	c := criteria{subject: in.Subject, correlation: in.Correlation}
	if in.Type != "" {
		c.types = []string{in.Type}
	}
	s, err := a.between(ctx, tx, in.Since, in.Until)
	if err != nil {
		return nil, err
	}
	desc := in.Order == "desc"
	if in.Cursor != "" {
		at, err := strconv.ParseInt(in.Cursor, 16, 64)
		if err != nil || at < 0 {
			return nil, fault.New(fault.Invalid, "invalid cursor")
		}
		if desc {
			s.last = min(s.last, at)
		} else {
			s.first = max(s.first, at)
		}
	}
	p, err := a.read(ctx, tx, c, s, desc, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &function.Page[Item]{}
	out.Body.Items = make([]Item, len(p.events))
	for i, e := range p.events {
		out.Body.Items[i] = e.item()
	}
	switch {
	case p.rest.empty():
	case desc:
		out.Body.Next = key(p.rest.last)
	default:
		out.Body.Next = key(p.rest.first)
	}
	return out, nil
}

type getInput struct {
	ID string `path:"id" maxLength:"200" doc:"A position, or the id of an event."`
}

type getOutput struct{ Body Item }

// get returns one event.
func (a *archive) get(ctx context.Context, tx *function.Tx, in *getInput) (*getOutput, error) {
	if isPosition(in.ID) {
		e, ok, err := a.events.Find(ctx, tx, in.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			return &getOutput{e.item()}, nil
		}
	}
	e, err := a.search(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &getOutput{e.item()}, nil
}

func isPosition(id string) bool {
	_, err := strconv.ParseUint(id, 16, 64)
	return err == nil && len(id) == 16
}

// The search for an id begins clockSkew before the time in the id, and reads at most maxSearched events.
const (
	clockSkew   = 2 * time.Second
	maxSearched = 40000
)

// search returns the event with this id. It reads the events from the time in the id on, if that is a UUIDv7 (RFC
// 9562), and otherwise the latest ones. Ids have no index, because each write would have to update it.
func (a *archive) search(ctx context.Context, tx *function.Tx, id string) (stored, error) {
	s, err := a.between(ctx, tx, time.Time{}, time.Time{})
	if err != nil {
		return stored{}, err
	}
	desc := true
	if u, err := uuid.Parse(id); err == nil && u.Version() == 7 {
		desc = false
		if s.first, err = a.since(ctx, tx, time.Unix(u.Time().UnixTime()).Add(-clockSkew), s.last); err != nil {
			return stored{}, err
		}
	}
	for read := 0; read < maxSearched && !s.empty(); read += 1000 {
		page, rest, err := a.consecutive(ctx, tx, s, desc, 1000)
		if err != nil {
			return stored{}, err
		}
		s = rest
		for _, e := range page {
			if e.ID == id {
				return e, nil
			}
		}
	}
	return stored{}, fault.New(fault.NotFound,
		"no event with this id was found near its time; look for it by its position, subject or correlation")
}
