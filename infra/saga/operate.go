package saga

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// PathPrefix begins the paths of the operations for operators: /api/sagas/NAME lists the sagas of one declaration.
const PathPrefix = "/api/sagas/"

// SagaSummary is a saga in a list. It is exported so that OpenAPI describes its fields where it is embedded.
type SagaSummary struct {
	ID        string    `json:"id"`
	Saga      string    `json:"saga" doc:"The name of the declaration."`
	Version   int       `json:"version" doc:"The version of the declaration that it runs on."`
	Status    Status    `json:"status" enum:"running,undoing,completed,undone"`
	Step      string    `json:"step,omitempty" doc:"The step whose answer is awaited."`
	Due       time.Time `json:"due,omitzero" doc:"When it has taken too long."`
	Again     int       `json:"again,omitempty" doc:"How often its command was sent again."`
	Reason    string    `json:"reason,omitempty" doc:"Why it is undone."`
	Code      string    `json:"code,omitempty" doc:"Why it is undone, for programs."`
	Stuck     *Stuck    `json:"stuck,omitempty" doc:"Set while it does not get on without a person."`
	Assignee  string    `json:"assignee,omitempty" doc:"The id of the person who looks after it."`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// sagaDetail is a saga with all its steps.
type sagaDetail struct {
	SagaSummary
	Steps []StepProgress      `json:"steps" doc:"All steps in order, those to come included."`
	Sent  map[string][]string `json:"sent,omitempty" doc:"The ids of the last commands, by step or \"undo STEP\"."`

	HandOvers []HandOver `json:"hand_overs,omitempty" doc:"Who looked after it, the last 20 changes in their order."`
}

func (g *Saga[S]) overview(s S) SagaSummary {
	in := g.instance(&s)
	p := &in.Saga
	return SagaSummary{
		ID: in.ID, Saga: g.d.Name, Version: p.Version, Status: p.Status, Step: p.Step, Due: p.Due, Again: p.Again,
		Reason: p.Reason, Code: in.Code, Stuck: p.Stuck, Assignee: in.assignee(), StartedAt: p.began(), EndedAt: in.EndedAt,
	}
}

func (g *Saga[S]) detail(s S) sagaDetail {
	in := g.instance(&s)
	return sagaDetail{SagaSummary: g.overview(s), Steps: in.Saga.Steps, Sent: in.Sent, HandOvers: in.Handed}
}

type operatedID struct {
	ID string `path:"id" minLength:"1" maxLength:"200" doc:"The saga's id."`
}

type detailOutput struct{ Body sagaDetail }

type listInput struct {
	function.Paging
	Status string `query:"status" enum:"open,running,undoing,stuck,completed,undone" default:"open" doc:"Open are those that are undoing or running; stuck are those of them that do not get on."`
}

type reasonInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"200" doc:"The saga's id."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why. It is a part of the reason of the saga."`
	}
}

type skipInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"200" doc:"The saga's id."`
	Body struct {
		Step   string `json:"step" minLength:"1" maxLength:"100"`
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"For the record."`
	}
}

type endInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"200" doc:"The saga's id."`
	Body struct {
		As     Status `json:"as,omitempty" enum:"completed,undone" doc:"undone unless given"`
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why. It is a part of the reason of the saga."`
	}
}

type handOverInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"200" doc:"The saga's id."`
	Body struct {
		To     string  `json:"to,omitempty" maxLength:"100" pattern:"^[A-Za-z0-9_.:-]*$" doc:"The id of the person who looks after it from now on. Empty: no one does."`
		From   *string `json:"from,omitempty" doc:"The assignee that the caller has seen. It is a conflict when another person looks after it by now."`
		Reason string  `json:"reason" minLength:"1" maxLength:"500" doc:"For the record. It must not name persons."`
	}
}

// serveOperators declares the operations with which an operator looks at sagas and mends them.
func (g *Saga[S]) serveOperators() {
	path := PathPrefix + g.d.Name
	op := func(method, below, summary, description string) function.Operation {
		o := function.Operation{
			Method: method, Path: path + below, Tag: "sagas", Summary: summary, Description: description,
			Access: function.Only(auth.Viewers()...),
		}
		if method == http.MethodPost {
			o.Access = function.Only(auth.Operators()...)
			o.Errors = []int{http.StatusConflict}
		}
		return o
	}
	name := strings.ReplaceAll(g.d.Name, "-", " ")
	function.Serve(g.f, op(http.MethodGet, "", "List the sagas of "+name,
		"By status. Those that are undoing come before those that are running, and the newest first."), g.list)
	function.Serve(g.f, op(http.MethodGet, "/{id}", "Show a saga of "+name, ""), g.show)
	function.Serve(g.f, op(http.MethodPost, "/{id}/retry", "Retry a saga of "+name,
		"Sends the commands that are not answered again, now, and counts its tries from 0."), g.operateRetry)
	function.Serve(g.f, op(http.MethodPost, "/{id}/skip", "Skip a step of a saga of "+name,
		"Takes a step for done, or for undone if the saga is undoing, without an answer. What it has left behind elsewhere "+
			"is for a person to mend."),
		g.operateSkip)
	function.Serve(g.f, op(http.MethodPost, "/{id}/cancel", "Cancel a saga of "+name,
		"Undoes it. A saga whose pivot is done, or that has ended, is a conflict."), g.operateCancel)
	function.Serve(g.f, op(http.MethodPost, "/{id}/end", "End a saga of "+name,
		"Ends it at once and undoes nothing. What it holds elsewhere is for a person to mend."), g.operateEnd)
	function.Serve(g.f, op(http.MethodPost, "/{id}/hand-over", "Hand over a saga of "+name,
		"To the person who looks after it from now on. It goes on as before: this only tells others who mends it."),
		g.operateHandOver)
}

func (g *Saga[S]) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[SagaSummary], error) {
	statuses := []Status{Undoing, Running}
	if in.Status != "open" && in.Status != "stuck" {
		statuses = []Status{Status(in.Status)}
	}
	out := &function.Page[SagaSummary]{}
	out.Body.Items = []SagaSummary{}
	// A cursor of the second status has its name before it.
	if at, cursor, ok := strings.Cut(in.Cursor, "."); ok && len(statuses) > 1 && Status(at) == Running {
		statuses, in.Cursor = statuses[1:], cursor
	}
	page, err := g.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "saga.status", Op: store.Equal, Value: string(statuses[0])}},
		Order: []store.Order{{Field: "id", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	for _, item := range page.Items {
		if o := g.overview(item.Value); in.Status != "stuck" || o.Stuck != nil {
			out.Body.Items = append(out.Body.Items, o)
		}
	}
	switch {
	case page.Next != "" && statuses[0] == Running && in.Status != "running":
		out.Body.Next = string(Running) + "." + page.Next
	case page.Next != "":
		out.Body.Next = page.Next
	case len(statuses) > 1:
		out.Body.Next = string(Running) + "."
	}
	return out, nil
}

func (g *Saga[S]) show(ctx context.Context, tx *function.Tx, in *operatedID) (*detailOutput, error) {
	s, err := g.Get(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &detailOutput{g.detail(s)}, nil
}

func (g *Saga[S]) operate(
	ctx context.Context, tx *function.Tx, id, act string, args []any, fn func(*run[S]) error,
) (*detailOutput, error) {
	s, err := g.change(ctx, tx, id, Operated, fn)
	if err != nil {
		return nil, err
	}
	g.f.Env().Logger.InfoContext(ctx, "an operator has changed a saga",
		append([]any{"saga", g.d.Name, "id", id, "act", act, "by", tx.Principal().Subject}, args...)...)
	return &detailOutput{g.detail(s)}, nil
}

func (g *Saga[S]) operateRetry(ctx context.Context, tx *function.Tx, in *operatedID) (*detailOutput, error) {
	return g.operate(ctx, tx, in.ID, "retry", nil, (*run[S]).retry)
}

func (g *Saga[S]) operateSkip(ctx context.Context, tx *function.Tx, in *skipInput) (*detailOutput, error) {
	return g.operate(ctx, tx, in.ID, "skip", []any{"step", in.Body.Step, "reason", in.Body.Reason},
		func(r *run[S]) error { return r.skip(in.Body.Step, in.Body.Reason) })
}

func (g *Saga[S]) operateCancel(ctx context.Context, tx *function.Tx, in *reasonInput) (*detailOutput, error) {
	return g.operate(ctx, tx, in.ID, "cancel", []any{"reason", in.Body.Reason}, func(r *run[S]) error {
		if err := r.cancellable(); err != nil {
			return err
		}
		r.cancel("cancelled by an operator: "+in.Body.Reason, "cancelled_by_operator")
		return r.err
	})
}

func (g *Saga[S]) operateEnd(ctx context.Context, tx *function.Tx, in *endInput) (*detailOutput, error) {
	as := in.Body.As
	if as == "" {
		as = Reversed
	}
	return g.operate(ctx, tx, in.ID, "end", []any{"as", as, "reason", in.Body.Reason}, func(r *run[S]) error {
		return r.end(as, "ended by an operator: "+in.Body.Reason, "ended_by_operator")
	})
}

func (g *Saga[S]) operateHandOver(ctx context.Context, tx *function.Tx, in *handOverInput) (*detailOutput, error) {
	to := in.Body.To
	return g.operate(ctx, tx, in.ID, "hand over", []any{"to", to, "reason", in.Body.Reason}, func(r *run[S]) error {
		switch now := r.in.assignee(); {
		case r.in.Saga.Status.Ended():
			return fault.New(fault.Conflict, "the saga has ended: it is %s", r.in.Saga.Status)
		case in.Body.From != nil && *in.Body.From != now && now == "":
			return fault.New(fault.Conflict, "nobody looks after the saga any more")
		case in.Body.From != nil && *in.Body.From != now:
			return fault.New(fault.Conflict, "%s looks after the saga by now", now)
		case to == now:
			return nil
		}
		all := append(slices.Clone(r.in.Handed), HandOver{
			To: to, By: tx.Principal().Subject, At: tx.Now(), Reason: in.Body.Reason,
		})
		r.in.Handed, r.changed = all[max(0, len(all)-handedLimit):], true
		return nil
	})
}
