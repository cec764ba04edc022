package clock

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Pending is a timer that has not fired.
type Pending struct {
	ID            string    `json:"id"`
	Due           time.Time `json:"due"`
	EventID       string    `json:"event_id" doc:"The id of the event that the timer will publish."`
	Type          string    `json:"type"`
	Source        string    `json:"source"`
	Subject       string    `json:"subject,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
}

type listInput struct{ function.Paging }

// list returns a page of the timers, the one due first at the top, without the data of their events.
func (c *clock) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Pending], error) {
	page, err := c.timers.Query(ctx, tx, store.Find{
		Order: []store.Order{{Field: "due"}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &function.Page[Pending]{}
	out.Body.Items, out.Body.Next = make([]Pending, len(page.Items)), page.Next
	for i, item := range page.Items {
		e, err := parse(item.Value.Event)
		if err != nil {
			return nil, err
		}
		due, err := time.Parse(time.RFC3339Nano, item.Value.Due)
		if err != nil {
			return nil, err
		}
		out.Body.Items[i] = Pending{
			ID: item.ID, Due: due, EventID: e.ID(), Type: e.Type(), Source: e.Source(), Subject: e.Subject(),
			CorrelationID: event.Extension(e, event.CorrelationID),
		}
	}
	return out, nil
}
