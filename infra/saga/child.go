package saga

import (
	"context"
	"encoding/json"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// subscribeChild declares the commands that a child saga carries out.
func (g *Saga[S]) subscribeChild() {
	c := g.d.Child
	if c == nil {
		return
	}
	function.On(g.f, event.Raw(c.Start), func(ctx context.Context, tx *function.Tx, _ json.RawMessage) error {
		return g.asked(ctx, tx)
	})
	function.Emits(g.f, c.Done.info, c.Failed.info)
	if c.Undo != nil {
		function.On(g.f, event.Raw(c.Undo), func(ctx context.Context, tx *function.Tx, _ json.RawMessage) error {
			return g.askedToUndo(ctx, tx)
		})
		function.Emits(g.f, c.Undone.info)
	}
}

// asked handles the command to begin a child saga. One that comes again is answered as the first one was.
func (g *Saga[S]) asked(ctx context.Context, tx *function.Tx) error {
	e := tx.Event()
	s, ok, err := g.Find(ctx, tx, e.Subject())
	if err != nil {
		return err
	}
	if !ok {
		state, err := g.d.Child.Start.(answer).begin(e)
		if err != nil {
			return err
		}
		s := state.(S) // check has seen to that
		g.instance(&s).Asked = &Asked{Start: e.ID()}
		_, err = g.Start(ctx, tx, e.Subject(), s)
		return err
	}
	return g.answerLater(ctx, tx, &s, func(a *Asked) { a.Start = e.ID() })
}

// askedToUndo handles the command to undo a child saga. One that overtakes the command to begin is remembered.
func (g *Saga[S]) askedToUndo(ctx context.Context, tx *function.Tx) error {
	e := tx.Event()
	s, ok, err := g.Find(ctx, tx, e.Subject())
	if err != nil {
		return err
	}
	if !ok {
		in := g.instance(&s)
		*in = Instance{ID: e.Subject(), Asked: &Asked{Undo: e.ID()}, EndedAt: tx.Now(), Saga: planOf(g.d.Steps)}
		in.Saga.Version, in.Saga.Status, in.Saga.Reason = g.d.Version, Reversed, "undone before it began"
		g.answerParent(tx, &s)
		return g.store.save(ctx, tx, in.ID, Change[S]{What: Started, At: tx.Now(), Event: e.Type(), State: s, Ended: true})
	}
	in := g.instance(&s)
	if in.Saga.Status == Reversed || in.Saga.Status == Undoing {
		return g.answerLater(ctx, tx, &s, func(a *Asked) { a.Undo = e.ID() })
	}
	_, err = g.change(ctx, tx, e.Subject(), Cancelled, func(r *run[S]) error {
		r.in.Asked = withAsked(r.in.Asked, func(a *Asked) { a.Undo = e.ID() })
		r.revert("undone by the saga that it belongs to", "undone")
		r.changed = true
		return r.err
	})
	return err
}

func withAsked(a *Asked, change func(*Asked)) *Asked {
	var next Asked
	if a != nil {
		next = *a
	}
	change(&next)
	return &next
}

// answerLater notes a command that came again, and answers it if the saga has ended.
func (g *Saga[S]) answerLater(ctx context.Context, tx *function.Tx, s *S, note func(*Asked)) error {
	in := g.instance(s)
	in.Asked = withAsked(in.Asked, note)
	if in.Saga.Status.Ended() {
		g.answerParent(tx, s)
	}
	return g.store.save(ctx, tx, in.ID, Change[S]{
		What: Answered, At: tx.Now(), Event: tx.Event().Type(), State: *s,
	})
}

// answerParent answers the command that an ended child carries out.
func (g *Saga[S]) answerParent(tx *function.Tx, s *S) {
	in, c := g.instance(s), g.d.Child
	if c == nil || in.Asked == nil {
		return
	}
	answer, cause := c.Failed, in.Asked.Start
	switch {
	case in.Saga.Status == Completed:
		answer = c.Done
	case in.Asked.Undo != "":
		answer, cause = c.Undone, in.Asked.Undo
	}
	d := answer.draft(in.ID, *s)
	d.Cause = cause
	tx.Emit(d)
}
