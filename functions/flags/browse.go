package flags

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	listFlags = function.Operation{
		Method: http.MethodGet, Path: "/api/flags", Access: function.Only(auth.Viewers()...), Summary: "List flags",
		Description: "In the order of their keys.",
	}
	getFlag = function.Operation{
		Method: http.MethodGet, Path: "/api/flags/{key}", Access: function.Only(auth.Viewers()...), Summary: "Show a flag",
		Description: "With If-None-Match, 304 when the flag's ETag is one of those given.",
		Statuses:    []int{http.StatusNotModified},
	}
	listHistory = function.Operation{
		Method: http.MethodGet, Path: "/api/flags/{key}/history", Access: function.Only(auth.Viewers()...),
		Summary:     "List the changes of a flag",
		Description: "The newest first: who did what, when and why. Those of a removed flag are found too, for two years.",
	}
)

type listInput struct{ function.Paging }

func (s *flags) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Flag], error) {
	page, err := s.flags.Query(ctx, tx, store.Find{Where: existing, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[stored]) Flag {
		return shown(item.ID, item.Version, item.Value)
	}), nil
}

type getInput struct {
	Key         string `path:"key" maxLength:"128" doc:"The flag's key."`
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that the caller has; 304 if one is the flag's."`
}

func (s *flags) get(ctx context.Context, tx *function.Tx, in *getInput) (*flagOutput, error) {
	f, version, err := s.find(ctx, tx, in.Key)
	if err != nil {
		return nil, err
	}
	out := output(in.Key, version, f)
	if httprequest.NoneMatch(in.IfNoneMatch, out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

// everWas returns fault.NotFound for a key that no flag has ever had.
func (s *flags) everWas(ctx context.Context, tx *function.Tx, key string) error {
	_, version, err := s.flags.Read(ctx, tx, key)
	if err == nil && version == 0 {
		err = fault.New(fault.NotFound, "there is no flag %q", key)
	}
	return err
}

type historyInput struct {
	Key string `path:"key" maxLength:"128" doc:"The flag's key."`
	function.Paging
}

// Change is the API's form of an entry of the history.
type Change struct {
	Version    int64           `json:"version" doc:"Of the flag after the change."`
	At         time.Time       `json:"at"`
	By         string          `json:"by,omitempty" doc:"The id of the user; of a scheduled change, who scheduled it."`
	What       string          `json:"what" enum:"added,changed,removed,enabled,disabled,scheduled,unscheduled,applied,left-out"`
	Reason     string          `json:"reason,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty" doc:"The flag after the change."`
}

func (s *flags) listHistory(
	ctx context.Context, tx *function.Tx, in *historyInput,
) (*function.Page[Change], error) {
	if err := s.everWas(ctx, tx, in.Key); err != nil {
		return nil, err
	}
	page, err := s.history.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "key", Op: store.Equal, Value: in.Key}},
		Order: []store.Order{{Field: "at", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[change]) Change {
		c := item.Value
		return Change{Version: c.Version, At: c.At, By: c.By, What: c.What, Reason: c.Reason, Definition: c.Definition}
	}), nil
}
