package archive

import (
	"cmp"
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// DeadLetterCause is the dead letters of one state that failed in one function, with one type of event, for one cause.
type DeadLetterCause struct {
	Function string           `json:"function"`
	Type     string           `json:"type"`
	Code     string           `json:"code,omitempty" doc:"The last status code of the function."`
	Reason   string           `json:"reason,omitempty" doc:"That of the newest one."`
	Cause    string           `json:"cause,omitempty" doc:"The reason without what differs between events: ids, numbers, texts in quotes."`
	Last     string           `json:"last" format:"date-time" doc:"When the newest one failed."`
	IDs      []string         `json:"ids" doc:"The dead letters, the newest first."`
	Newest   []DeadLetterLine `json:"newest" doc:"The newest ones, 20 at most."`
}

// DeadLetterLine is a dead letter without its event.
type DeadLetterLine struct {
	ID      string `json:"id"`
	At      string `json:"at" format:"date-time" doc:"When it failed last."`
	Subject string `json:"subject,omitempty" doc:"The entity that the event is about. It is missing for some large events."`
	Times   int    `json:"times" doc:"How often it became a dead letter."`
	Mended  bool   `json:"mended,omitempty"`
}

type causesInput struct {
	State string `query:"state" enum:"waiting,replayed" default:"waiting" doc:"Only dead letters in the state."`
}

type causesOutput struct {
	Body struct {
		Count  int               `json:"count" doc:"How many dead letters were looked at: the newest ones, 1000 at most."`
		More   bool              `json:"more,omitempty" doc:"There are more."`
		Causes []DeadLetterCause `json:"causes" doc:"The one with most dead letters first."`
	}
}

// The most dead letters that one call groups, their most bytes, and how many of a cause it describes. So a call costs
// the same with a thousand dead letters and with a million.
const (
	maxGrouped      = 1000
	maxGroupedBytes = 16 << 20
	maxDescribed    = 20
)

// causes groups the newest dead letters of a state by why they failed. It does not read the parts of large events.
func (a *archive) causes(ctx context.Context, tx *function.Tx, in *causesInput) (*causesOutput, error) {
	type cause struct{ function, eventType, code, cause string }
	out, byCause, reasons := &causesOutput{}, map[cause]int{}, map[string]string{}
	all := []DeadLetterCause{}
	find := store.Find{
		Where: []store.Filter{{Field: "state", Op: store.Equal, Value: in.State}},
		Order: []store.Order{{Field: "at", Desc: true}},
		Limit: firstQuery,
	}
	for bytes := 0; ; {
		page, err := a.dead.Query(ctx, tx, find)
		if err != nil {
			return nil, err
		}
		read := 0
		for _, item := range page.Items {
			l := item.Value
			read += len(l.Event)
			if _, known := reasons[l.Reason]; !known {
				reasons[l.Reason] = causeOf(l.Reason)
			}
			key := cause{l.Function, l.Type, l.Code, reasons[l.Reason]}
			i, known := byCause[key]
			if !known {
				i = len(all)
				byCause[key] = i
				all = append(all, DeadLetterCause{
					Function: l.Function, Type: l.Type, Code: l.Code, Reason: l.Reason, Cause: key.cause, Last: l.At,
				})
			}
			c := &all[i]
			if c.IDs = append(c.IDs, item.ID); len(c.Newest) < maxDescribed {
				c.Newest = append(c.Newest, l.line(item.ID))
			}
		}
		bytes, out.Body.Count = bytes+read, out.Body.Count+len(page.Items)
		left := maxGrouped - out.Body.Count
		if out.Body.More = page.Next != ""; !out.Body.More || left == 0 || bytes > maxGroupedBytes {
			break
		}
		find.Cursor, find.Limit = page.Next, min(nextSize(find.Limit, len(page.Items), read), left)
	}
	slices.SortStableFunc(all, func(a, b DeadLetterCause) int { return cmp.Compare(len(b.IDs), len(a.IDs)) })
	out.Body.Causes = all
	return out, nil
}

// line returns the dead letter without its event. Letters of older versions have their subject in the event only.
func (l letter) line(id string) DeadLetterLine {
	subject := l.Subject
	if subject == "" && l.Parts == 0 {
		if e, err := event.FromJSON(l.Event); err == nil {
			subject = e.Subject()
		}
	}
	return DeadLetterLine{ID: id, At: l.At, Subject: subject, Times: l.Times, Mended: l.Mended}
}
