package archive

import (
	"context"
	"encoding/json"
	"strings"
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

func (e stored) item() Item {
	return Item{Position: string(e.Position), ArchivedAt: e.At, Event: e.Event}
}

// listInput has larger pages than function.Paging.
type listInput struct {
	Subject     string    `query:"subject" maxLength:"200" doc:"Only events about this entity."`
	Type        string    `query:"type" maxLength:"200" doc:"Only events of the type."`
	Correlation string    `query:"correlation" maxLength:"200" doc:"Only events of the correlation."`
	Field       string    `query:"field" maxLength:"200" doc:"The member of the data that has the text, such as lines.product_id; without it any."`
	Text        string    `query:"text" maxLength:"200" doc:"Only events whose data has the text, in any case, or has it as a number or a boolean. Personal fields are not searched. A page is of the next 2000 events at most."`
	Since       time.Time `query:"since" doc:"Only events that arrived at this time or later."`
	Until       time.Time `query:"until" doc:"Only events that arrived before this time."`
	Order       string    `query:"order" enum:"asc,desc" default:"asc" doc:"desc: the newest first."`
	Limit       int       `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"The most entries of a page."`
	Cursor      string    `query:"cursor" maxLength:"100" doc:"The next of the page before."`
}

// list returns a page of the log.
func (a *archive) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Item], error) {
	c := criteria{subject: in.Subject, correlation: in.Correlation}
	if in.Type != "" {
		c.types = []string{in.Type}
	}
	switch {
	case in.Text != "":
		c.text = &textFilter{field: in.Field, text: strings.ToLower(in.Text), types: a.types(),
			personal: map[string]map[string]string{}}
	case in.Field != "":
		return nil, fault.New(fault.Invalid, "a field is searched for a text: text is missing")
	}
	s, err := a.between(ctx, tx, in.Since, in.Until)
	if err != nil {
		return nil, err
	}
	desc := in.Order == "desc"
	if in.Cursor != "" {
		if strings.Trim(in.Cursor, "0123456789abcdef") != "" {
			return nil, fault.New(fault.Invalid, "invalid cursor")
		}
		if desc {
			s.end = min(s.end, in.Cursor)
		} else {
			s.first = max(s.first, in.Cursor)
		}
	}
	p, err := a.read(ctx, tx, c, s, desc, limits{in.Limit, maxPage})
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
		out.Body.Next = p.rest.end
	default:
		out.Body.Next = p.rest.first
	}
	return out, nil
}

// maxPage is how many bytes the events of one page have at most, unless it has a single one.
const maxPage = 4 << 20

type getInput struct {
	ID string `path:"id" maxLength:"200" doc:"A position, or the id of an event."`
}

type getOutput struct{ Body Item }

// get returns one event.
func (a *archive) get(ctx context.Context, tx *function.Tx, in *getInput) (*getOutput, error) {
	if isPosition(in.ID) {
		e, err := a.at(ctx, tx, position(in.ID))
		if err != nil {
			return nil, err
		}
		if e.Position != "" {
			return &getOutput{e.item()}, nil
		}
	}
	e, err := a.search(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &getOutput{e.item()}, nil
}

// at returns the event at a position; a zero one when there is none.
func (a *archive) at(ctx context.Context, tx *function.Tx, p position) (stored, error) {
	if _, old := p.count(); old {
		d, err := tx.StoreTx().Get(ctx, a.counted.Key(string(p)))
		if err != nil {
			return stored{}, err
		}
		return decodeCounted(d)
	}
	e, _, err := a.log.Find(ctx, tx, string(p))
	if err == nil {
		err = a.join(ctx, tx, &e)
	}
	return e, err
}

// The search for an id begins clockSkew before the time in the id, and reads at most maxSearched events, also for an id
// that no event has.
const (
	clockSkew   = 2 * time.Second
	maxSearched = 6000
)

// search returns the event with this id. It reads the events from the time in the id on, if that is a UUIDv7 (RFC
// 9562), and otherwise the latest ones. Ids have no index, because each write would have to update it.
//
// It reads in a nested transaction that is not merged, so that the commit does not check the thousands of events that
// were read. Such a check would fail whenever another event arrives, and the search would be repeated each time.
func (a *archive) search(ctx context.Context, tx *function.Tx, id string) (stored, error) {
	s, desc, nested := span{"", endless}, true, tx.StoreTx().Nest()
	if u, err := uuid.Parse(id); err == nil && u.Version() == 7 {
		desc = false
		if s.first, err = a.beginning(ctx, nested, time.Unix(u.Time().UnixTime()).Add(-clockSkew)); err != nil {
			return stored{}, err
		}
	}
	size := firstQuery
	for read := 0; read < maxSearched && !s.empty(); {
		page, rest, err := a.page(ctx, nested, criteria{}, s, desc, size)
		if err != nil {
			return stored{}, err
		}
		bytes := 0
		for _, e := range page {
			if e.ID == id {
				err := a.join(ctx, tx, &e)
				return e, err
			}
			bytes += e.size()
		}
		s, read, size = rest, read+len(page), nextSize(size, len(page), bytes)
	}
	return stored{}, fault.New(fault.NotFound,
		"no event with this id was found near its time; look for it by its position, subject or correlation")
}
