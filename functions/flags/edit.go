package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/flag"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	putFlag = function.Operation{
		Method: http.MethodPut, Path: "/api/flags/{key}", Access: function.Only(auth.Operators()...),
		Summary: "Add or change a flag",
		Description: "If-Match holds the ETag of the version that the change was made for, and If-None-Match: * asks for a " +
			"flag that does not exist. Without either it is 428, and 412 when the flag has changed since.",
		Statuses: []int{http.StatusCreated},
		Errors:   []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired},
	}
	removeFlag = function.Operation{
		Method: http.MethodDelete, Path: "/api/flags/{key}", Access: function.Only(auth.Operators()...),
		Status: http.StatusNoContent, Summary: "Remove a flag",
		Description: "Its users take their own default from then on. If-Match holds the ETag of the flag.",
		Errors:      []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired},
	}
	disableFlag = function.Operation{
		Method: http.MethodPost, Path: "/api/flags/{key}/disable", Access: function.Only(auth.Operators()...),
		Summary: "Switch a flag off at once",
		Description: "Its users take their own default from then on, whatever version it has. One that is off already " +
			"stays off: a change that is scheduled for it is left out.",
	}
	enableFlag = function.Operation{
		Method: http.MethodPost, Path: "/api/flags/{key}/enable", Access: function.Only(auth.Operators()...),
		Summary: "Switch a flag on again",
	}
)

type flagOutput struct {
	Status   int
	Location string `header:"Location"`
	ETag     string `header:"ETag" doc:"The version of the flag; If-Match takes it."`
	Body     Flag
}

func shown(key string, version int64, f stored) Flag {
	return Flag{Key: key, Version: version, Definition: f.Definition, CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt}
}

func output(key string, version int64, f stored) *flagOutput {
	return &flagOutput{ETag: etag(version), Body: shown(key, version, f)}
}

type putInput struct {
	Key         string `path:"key" maxLength:"128" doc:"The flag's key."`
	IfMatch     string `header:"If-Match" doc:"The ETag of the version that is changed."`
	IfNoneMatch string `header:"If-None-Match" doc:"* for a flag that does not exist."`
	Body        struct {
		Definition json.RawMessage `json:"definition" doc:"The whole flag in flagd's JSON."`
		Reason     string          `json:"reason,omitempty" maxLength:"500" doc:"Why, for the history."`
	}
}

func (s *flags) put(ctx context.Context, tx *function.Tx, in *putInput) (*flagOutput, error) {
	if err := flag.CheckKey(in.Key); err != nil {
		return nil, err
	}
	definition, err := canonical(in.Body.Definition)
	if err != nil {
		return nil, err
	}
	if in.IfMatch == "" && in.IfNoneMatch == "*" {
		return s.add(ctx, tx, in, definition)
	}
	f, version, err := s.findVersion(ctx, tx, in.Key, in.IfMatch)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(f.Definition, definition) {
		return output(in.Key, version, f), nil
	}
	f.Definition = definition
	version, err = s.save(ctx, tx, in.Key, f, change{What: changed, Reason: in.Body.Reason})
	f.UpdatedAt = tx.Now()
	return output(in.Key, version, f), err
}

func (s *flags) add(
	ctx context.Context, tx *function.Tx, in *putInput, definition json.RawMessage,
) (*flagOutput, error) {
	before, version, err := s.flags.Read(ctx, tx, in.Key)
	if err != nil {
		return nil, err
	}
	if version > 0 && !before.Removed {
		return nil, outdated(version)
	}
	all, err := s.all(ctx, tx)
	if err != nil {
		return nil, err
	}
	if len(all) >= maxFlags {
		return nil, fault.New(fault.Invalid, "there are %d flags: remove one first", len(all))
	}
	f := stored{Definition: definition, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
	version, err = s.save(ctx, tx, in.Key, f, change{What: added, Reason: in.Body.Reason})
	out := output(in.Key, version, f)
	out.Status, out.Location = http.StatusCreated, "/api/flags/"+in.Key
	return out, err
}

// all returns every flag that is not removed, in the order of the keys.
func (s *flags) all(ctx context.Context, tx *function.Tx) ([]store.Item[stored], error) {
	var all []store.Item[stored]
	for cursor := ""; ; {
		page, err := s.flags.Query(ctx, tx, store.Find{Where: existing, Limit: maxFlags, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// existing selects the flags that are not removed.
var existing = []store.Filter{{Field: "removed", Op: store.Equal, Value: false}}

type removeInput struct {
	Key     string `path:"key" maxLength:"128" doc:"The flag's key."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is removed."`
	Reason  string `query:"reason" maxLength:"500" doc:"Why, for the history."`
}

func (s *flags) remove(ctx context.Context, tx *function.Tx, in *removeInput) (*struct{}, error) {
	f, _, err := s.findVersion(ctx, tx, in.Key, in.IfMatch)
	if err != nil {
		return nil, err
	}
	f.Definition, f.Removed = nil, true
	_, err = s.save(ctx, tx, in.Key, f, change{What: removed, Reason: in.Reason})
	return nil, err
}

type switchInput struct {
	Key  string `path:"key" maxLength:"128" doc:"The flag's key."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why, for the history."`
	}
}

func (s *flags) disable(ctx context.Context, tx *function.Tx, in *switchInput) (*flagOutput, error) {
	return s.turn(ctx, tx, in, flag.Disabled, disabled)
}

func (s *flags) enable(ctx context.Context, tx *function.Tx, in *switchInput) (*flagOutput, error) {
	return s.turn(ctx, tx, in, flag.Enabled, enabled)
}

// turn gives a flag a state. One that has it already makes no version, unless it is switched off and a change is
// scheduled for the version that it has: that change could switch it on.
func (s *flags) turn(
	ctx context.Context, tx *function.Tx, in *switchInput, state, what string,
) (*flagOutput, error) {
	f, version, err := s.find(ctx, tx, in.Key)
	if err != nil {
		return nil, err
	}
	parsed, err := flag.Parse(f.Definition)
	if err == nil && parsed.State == state {
		planned := false
		if state == flag.Disabled {
			if planned, err = s.isPlanned(ctx, tx, in.Key, version); err != nil {
				return nil, err
			}
		}
		if !planned {
			return output(in.Key, version, f), nil
		}
	}
	if f.Definition, err = withState(f.Definition, state); err != nil {
		return nil, err
	}
	version, err = s.save(ctx, tx, in.Key, f, change{What: what, Reason: in.Body.Reason})
	f.UpdatedAt = tx.Now()
	return output(in.Key, version, f), err
}
