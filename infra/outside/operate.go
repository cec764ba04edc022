package outside

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// PathPrefix begins the paths of the operations for operators: /api/calls/FUNCTION lists the calls of a function that
// have no result.
const PathPrefix = "/api/calls/"

// shownCall is a call without a result. What it is called with stays out, as it may hold personal data and secrets.
type shownCall struct {
	Call          string    `json:"call" doc:"The name of the declaration."`
	ID            string    `json:"id"`
	Key           string    `json:"key" doc:"The idempotency key that the service sees."`
	StartedAt     time.Time `json:"started_at"`
	Due           time.Time `json:"due" doc:"When it is, or was, to be made."`
	Attempts      int       `json:"attempts,omitempty" doc:"How often it has failed, each time after a few attempts."`
	Error         string    `json:"error,omitempty" doc:"Of the last attempt."`
	Ending        string    `json:"ending,omitempty" doc:"Why an operator ends it, while that is not done."`
	CausationID   string    `json:"causation_id,omitempty" doc:"The id of the event that started it."`
	CorrelationID string    `json:"correlation_id,omitempty"`
	Undeclared    bool      `json:"undeclared,omitempty" doc:"Another version of the function has started it, and this one cannot make it."`
}

func (c *Calls) shown(p pending) shownCall {
	return shownCall{
		Call: p.name(), ID: p.ID, Key: c.key(p), StartedAt: p.At, Due: time.UnixMilli(p.Due).UTC(), Attempts: p.Attempts,
		Error: p.Error, Ending: p.Ending, CausationID: p.cause().ID(), CorrelationID: p.Correlation,
		Undeclared: c.byName[p.Call] == nil,
	}
}

type callID struct {
	Call string `path:"call" minLength:"1" maxLength:"100" doc:"The name that the call is declared with."`
	ID   string `path:"id" minLength:"1" maxLength:"500" doc:"The call's id."`
}

func (in callID) doc() string { return docID(in.Call, in.ID) }

func (in endInput) id() callID { return callID{in.Call, in.ID} }

type callOutput struct{ Body shownCall }

type callsInput struct {
	function.Paging
	Failing bool `query:"failing" doc:"Only those that have failed at least once."`
}

type endInput struct {
	Call string `path:"call" minLength:"1" maxLength:"100" doc:"The name that the call is declared with."`
	ID   string `path:"id" minLength:"1" maxLength:"500" doc:"The call's id."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why. The function gets it as the failure of the call."`
		Forget bool   `json:"forget,omitempty" doc:"Forget the call: the function never gets a result."`
	}
}

// actedOutput is what has become of a call.
type actedOutput struct {
	Body struct {
		Ended bool       `json:"ended" doc:"It has a result, or is forgotten."`
		Call  *shownCall `json:"call,omitempty" doc:"The call, unless it has ended."`
	}
}

// serveOperators declares the operations with which an operator looks at calls and mends them.
func (c *Calls) serveOperators() {
	path := PathPrefix + c.f.Name()
	op := func(method, below, summary, description string) function.Operation {
		o := function.Operation{
			Method: method, Path: path + below, Tag: "calls", Summary: summary, Description: description,
			Access: function.Only(auth.Viewers()...),
		}
		if method == http.MethodPost {
			o.Access = function.Only(auth.Operators()...)
			o.Errors, o.Deadline = []int{http.StatusConflict}, 2*time.Minute
		}
		return o
	}
	of := " of " + c.f.Name()
	function.Serve(c.f, op(http.MethodGet, "", "List the outside calls"+of,
		"Those without a result, the one that is due first at the top."), c.list)
	function.Serve(c.f, op(http.MethodGet, "/{call}/{id}", "Show an outside call"+of, ""), c.show)
	function.Serve(c.f, op(http.MethodPost, "/{call}/{id}/retry", "Make an outside call"+of+" now",
		"Under its key, before the response. One that is being made is a conflict."),
		c.retry, function.Then(func(ctx context.Context, in *callID, _ *actedOutput) (*actedOutput, error) {
			return c.acted(ctx, *in)
		}))
	function.Serve(c.f, op(http.MethodPost, "/{call}/{id}/end", "Give up an outside call"+of,
		"It is not made again, and the function gets a failure with the reason as its result. A function that cannot take "+
			"that is a conflict, and the call goes on. It may be forgotten: then the function never gets a result, and what "+
			"waits for that is for a person to mend."),
		c.end, function.Then(func(ctx context.Context, in *endInput, _ *actedOutput) (*actedOutput, error) {
			out, err := c.acted(ctx, in.id())
			if err == nil && !out.Body.Ended && out.Body.Call.Ending == "" {
				return nil, fault.New(fault.Conflict, "the function does not take this end, and the call goes on; it may be "+
					"forgotten: %s", out.Body.Call.Error)
			}
			return out, err
		}))
}

func (c *Calls) list(ctx context.Context, tx *function.Tx, in *callsInput) (*function.Page[shownCall], error) {
	page, err := c.pending.Query(ctx, tx, store.Find{
		Order: []store.Order{{Field: "due"}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &function.Page[shownCall]{}
	out.Body.Items, out.Body.Next = []shownCall{}, page.Next
	for _, item := range page.Items {
		if item.Value.Attempts > 0 || !in.Failing {
			out.Body.Items = append(out.Body.Items, c.shown(item.Value))
		}
	}
	return out, nil
}

func (c *Calls) get(ctx context.Context, tx *function.Tx, id callID) (pending, error) {
	p, ok, err := c.pending.Find(ctx, tx, id.doc())
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no call %s without a result", id.doc())
	}
	return p, err
}

func (c *Calls) show(ctx context.Context, tx *function.Tx, in *callID) (*callOutput, error) {
	p, err := c.get(ctx, tx, *in)
	if err != nil {
		return nil, err
	}
	return &callOutput{c.shown(p)}, nil
}

// takeUp has the call followed up when the unit has committed.
func (c *Calls) takeUp(ctx context.Context, tx *function.Tx, p pending) error {
	p.Due, p.Claimed = tx.Now().UnixMilli(), tx.Now().UnixMilli()
	return c.pending.Put(ctx, tx, p.doc(), p)
}

func (c *Calls) retry(ctx context.Context, tx *function.Tx, in *callID) (*actedOutput, error) {
	p, err := c.get(ctx, tx, *in)
	switch {
	case err != nil:
		return nil, err
	case c.byName[p.Call] == nil:
		return nil, fault.New(fault.Conflict, "this version of the function does not declare the call")
	case p.claimedWithin(handover, tx.Now()):
		return nil, fault.New(fault.Conflict, "the call is being made")
	}
	c.log(ctx, tx, "an operator has a call made again", p)
	p.Ending = ""
	return &actedOutput{}, c.takeUp(ctx, tx, p)
}

func (c *Calls) end(ctx context.Context, tx *function.Tx, in *endInput) (*actedOutput, error) {
	p, err := c.get(ctx, tx, in.id())
	switch {
	case err != nil:
		return nil, err
	case in.Body.Forget:
		c.log(ctx, tx, "an operator forgets a call: "+in.Body.Reason, p)
		return &actedOutput{}, c.pending.Delete(ctx, tx, p.doc())
	case c.byName[p.Call] == nil:
		return nil, fault.New(fault.Conflict, "this version of the function does not declare the call; it may be forgotten")
	}
	c.log(ctx, tx, "an operator ends a call: "+in.Body.Reason, p)
	p.Ending = in.Body.Reason
	return &actedOutput{}, c.takeUp(ctx, tx, p)
}

func (c *Calls) log(ctx context.Context, tx *function.Tx, what string, p pending) {
	c.f.Env().Logger.InfoContext(ctx, what, "function", c.f.Name(), "call", p.doc(), "by", tx.Principal().Subject)
}

// acted returns what has become of a call.
func (c *Calls) acted(ctx context.Context, id callID) (*actedOutput, error) {
	out := &actedOutput{}
	err := c.f.Read(ctx, func(ctx context.Context, tx *function.Tx) error {
		p, ok, err := c.pending.Find(ctx, tx, id.doc())
		if out.Body.Ended = !ok; ok {
			shown := c.shown(p)
			out.Body.Call = &shown
		}
		return err
	})
	return out, err
}
