package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	scheduleChange = function.Operation{
		Method: http.MethodPost, Path: "/api/flags/{key}/scheduled", Access: function.Only(auth.Operators()...),
		Status: http.StatusCreated, Summary: "Schedule a change of a flag",
		Description: "It is made at the time if the flag is still the version that If-Match names, and left out otherwise.",
		Errors:      []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired},
	}
	listScheduled = function.Operation{
		Method: http.MethodGet, Path: "/api/flags/{key}/scheduled", Access: function.Only(auth.Viewers()...),
		Summary: "List the scheduled changes of a flag", Description: "The one due first at the top.",
	}
	cancelScheduled = function.Operation{
		Method: http.MethodDelete, Path: "/api/flags/{key}/scheduled/{id}", Access: function.Only(auth.Operators()...),
		Status: http.StatusNoContent, Summary: "Cancel a scheduled change",
	}
)

// maxAhead is how far ahead a change may be scheduled.
const maxAhead = 366 * 24 * time.Hour

// planned is a change that is scheduled.
type planned struct {
	Key        string          `json:"key"`
	Due        time.Time       `json:"due"`
	Definition json.RawMessage `json:"definition"`
	Version    int64           `json:"version"` // that it was made for
	By         string          `json:"by"`
	Reason     string          `json:"reason,omitempty"`
	Timer      string          `json:"timer"`
}

// Scheduled is the API's form of a scheduled change.
type Scheduled struct {
	ID         string          `json:"id"`
	Due        time.Time       `json:"due"`
	Definition json.RawMessage `json:"definition" doc:"The whole flag after the change."`
	Version    int64           `json:"version" doc:"The version that the change was made for."`
	By         string          `json:"by"`
	Reason     string          `json:"reason,omitempty"`
}

func (p planned) shown(id string) Scheduled {
	return Scheduled{ID: id, Due: p.Due, Definition: p.Definition, Version: p.Version, By: p.By, Reason: p.Reason}
}

type scheduleInput struct {
	Key     string `path:"key" maxLength:"128" doc:"The flag's key."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is changed."`
	Body    struct {
		Due        time.Time       `json:"due" doc:"A year ahead at most."`
		Definition json.RawMessage `json:"definition" doc:"The whole flag in flagd's JSON."`
		Reason     string          `json:"reason,omitempty" maxLength:"500" doc:"Why, for the history."`
	}
}

type scheduleOutput struct{ Body Scheduled }

func (s *flags) schedule(ctx context.Context, tx *function.Tx, in *scheduleInput) (*scheduleOutput, error) {
	definition, err := canonical(in.Body.Definition)
	if err != nil {
		return nil, err
	}
	if !in.Body.Due.After(tx.Now()) || in.Body.Due.After(tx.Now().Add(maxAhead)) {
		return nil, fault.New(fault.Invalid, "invalid due %s: want a time from now to a year ahead",
			in.Body.Due.Format(time.RFC3339))
	}
	_, version, err := s.findVersion(ctx, tx, in.Key, in.IfMatch)
	if err != nil {
		return nil, err
	}
	id, p := tx.NewID(), planned{
		Key: in.Key, Due: in.Body.Due.UTC(), Definition: definition, Version: version,
		By: tx.Principal().Subject, Reason: in.Body.Reason,
	}
	p.Timer, err = tx.After(p.Due, event.FlagsApply.New(in.Key, event.ApplyFlagChange{
		Key: in.Key, ChangeID: id, Due: p.Due,
	}))
	if err != nil {
		return nil, err
	}
	if err := s.planned.Create(ctx, tx, id, p); err != nil {
		return nil, err
	}
	err = s.record(ctx, tx, in.Key, version, change{What: scheduled, Reason: p.Reason, Definition: definition})
	return &scheduleOutput{p.shown(id)}, err
}

type scheduledInput struct {
	Key string `path:"key" maxLength:"128" doc:"The flag's key."`
	function.Paging
}

func (s *flags) listScheduled(
	ctx context.Context, tx *function.Tx, in *scheduledInput,
) (*function.Page[Scheduled], error) {
	if err := s.everWas(ctx, tx, in.Key); err != nil {
		return nil, err
	}
	page, err := s.planned.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "key", Op: store.Equal, Value: in.Key}},
		Order: []store.Order{{Field: "due"}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[planned]) Scheduled { return item.Value.shown(item.ID) }), nil
}

// isPlanned reports whether a change of a version of the flag is scheduled.
func (s *flags) isPlanned(ctx context.Context, tx *function.Tx, key string, version int64) (bool, error) {
	for cursor := ""; ; {
		page, err := s.planned.Query(ctx, tx, store.Find{
			Where: []store.Filter{{Field: "key", Op: store.Equal, Value: key}},
			Order: []store.Order{{Field: "due"}}, Cursor: cursor,
		})
		if err != nil {
			return false, err
		}
		for _, item := range page.Items {
			if item.Value.Version == version {
				return true, nil
			}
		}
		if cursor = page.Next; cursor == "" {
			return false, nil
		}
	}
}

type cancelInput struct {
	Key string `path:"key" maxLength:"128" doc:"The flag's key."`
	ID  string `path:"id" maxLength:"128" doc:"The id of the scheduled change."`
}

func (s *flags) cancel(ctx context.Context, tx *function.Tx, in *cancelInput) (*struct{}, error) {
	p, ok, err := s.planned.Find(ctx, tx, in.ID)
	if err == nil && (!ok || p.Key != in.Key) {
		err = fault.New(fault.NotFound, "the flag %q has no scheduled change %q", in.Key, in.ID)
	}
	if err != nil {
		return nil, err
	}
	tx.CancelTimer(p.Timer, in.Key)
	if err := s.planned.Delete(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	return nil, s.record(ctx, tx, in.Key, p.Version, change{What: unscheduled, Definition: p.Definition})
}

// apply makes a scheduled change that is due, unless it was cancelled or made before.
func (s *flags) apply(ctx context.Context, tx *function.Tx, cmd event.ApplyFlagChange) error {
	if tx.Replayed() {
		return nil
	}
	p, ok, err := s.planned.Find(ctx, tx, cmd.ChangeID)
	if err != nil || !ok {
		return err
	}
	if err := s.planned.Delete(ctx, tx, cmd.ChangeID); err != nil {
		return err
	}
	f, version, err := s.flags.Read(ctx, tx, p.Key)
	if err != nil {
		return err
	}
	c := change{What: applied, By: p.By, Reason: p.Reason}
	switch {
	case version != p.Version || f.Removed:
		c.What, c.Definition = leftOut, p.Definition
		return s.record(ctx, tx, p.Key, version, c)
	case bytes.Equal(f.Definition, p.Definition):
		return s.record(ctx, tx, p.Key, version, c)
	}
	f.Definition = p.Definition
	_, err = s.save(ctx, tx, p.Key, f, c)
	return err
}
