package clock

import (
	"cmp"
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
	Problem       string    `json:"problem,omitempty" doc:"Why it was not published when it was due; it is tried again."`
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
		due, err := time.Parse(time.RFC3339Nano, item.Value.Due)
		if err != nil {
			return nil, err
		}
		p := Pending{ID: item.ID, Due: due, Problem: item.Value.Problem}
		if e, err := parse(item.Value.Event); err == nil {
			p.EventID, p.Type, p.Source, p.Subject = e.ID(), e.Type(), e.Source(), e.Subject()
			p.CorrelationID = event.Extension(e, event.CorrelationID)
		} else {
			p.Problem = cmp.Or(p.Problem, err.Error())
		}
		out.Body.Items[i] = p
	}
	return out, nil
}

// Recurring is a recurring schedule of a function.
type Recurring struct {
	Function string     `json:"function"`
	Name     string     `json:"name"`
	Cron     string     `json:"cron" doc:"Minute, hour, day of the month, month, day of the week."`
	TimeZone string     `json:"time_zone"`
	Missed   string     `json:"missed" enum:"once,skip,all" doc:"What happens to missed runs."`
	Next     time.Time  `json:"next" doc:"When the next run is due."`
	Last     *time.Time `json:"last,omitempty" doc:"The latest run that was published; none: it has had none yet."`
}

// listSchedules returns a page of the schedules, the one due first at the top.
func (c *clock) listSchedules(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Recurring], error) {
	page, err := c.schedules.Query(ctx, tx, store.Find{
		Order: []store.Order{{Field: "due"}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[recurring]) Recurring {
		s := item.Value
		r := Recurring{
			Function: s.Function, Name: s.Schedule.Name, Cron: s.Schedule.Expression, TimeZone: s.Schedule.Zone,
			Missed: s.Schedule.Missed,
		}
		zone, err := time.LoadLocation(s.Schedule.Zone)
		if err != nil {
			zone = time.UTC
		}
		r.Next, _ = time.Parse(time.RFC3339Nano, s.Due) // what cannot be read is shown as the zero time
		r.Next = r.Next.In(zone)
		if last, err := time.Parse(time.RFC3339Nano, s.Last); err == nil {
			last = last.In(zone)
			r.Last = &last
		}
		return r
	}), nil
}
