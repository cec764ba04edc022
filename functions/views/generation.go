package views

import (
	"context"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// generations says which generation is read and which is being built. There is one such document.
type generations struct {
	Live     int64     `json:"live"`
	Building int64     `json:"building,omitempty"` // none: 0
	Last     int64     `json:"last"`               // the greatest number ever given
	ReplayID string    `json:"replay_id,omitempty"`
	Begun    time.Time `json:"begun,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

const only = "only" // the id of a document of which there is one

func (v *views) generation(ctx context.Context, tx *function.Tx) (generations, error) {
	g, ok, err := v.generations.Find(ctx, tx, only)
	if !ok {
		g = generations{Live: 1, Last: 1}
	}
	return g, err
}

// into are the generations that the event being handled goes into.
func (v *views) into(ctx context.Context, tx *function.Tx) ([]int64, error) {
	g, err := v.generation(ctx, tx)
	switch {
	case err != nil:
		return nil, err
	case g.Building == 0:
		return []int64{g.Live}, nil
	case g.builtBy(replayOf(tx)):
		return []int64{g.Building}, nil
	}
	return []int64{g.Live, g.Building}, nil
}

func (g generations) builtBy(replay string) bool {
	return g.Building != 0 && replay != "" && replay == g.ReplayID
}

func replayOf(tx *function.Tx) string {
	return event.Extension(tx.Event(), event.Replay)
}

// progress counts a rebuild's replayed events. It is apart from generations, which every live event reads.
type progress struct {
	Handled  int  `json:"handled"`
	Expected int  `json:"expected"`
	Known    bool `json:"known"` // what to expect
}

// heard is what happens with every event beside its own handler: counting what a rebuild has taken, and tidying up.
func heard[T any](v *views, h func(context.Context, *function.Tx, T) error) func(context.Context, *function.Tx, T) error {
	return func(ctx context.Context, tx *function.Tx, data T) error {
		if err := h(ctx, tx, data); err != nil {
			return err
		}
		if err := v.advance(ctx, tx, replayOf(tx), func(p *progress) { p.Handled++ }); err != nil {
			return err
		}
		return v.tidy(ctx, tx)
	}
}

// replayed learns how many events a replay had.
func (v *views) replayed(ctx context.Context, tx *function.Tx, data event.FinishedReplay) error {
	return v.advance(ctx, tx, data.ReplayID, func(p *progress) { p.Expected, p.Known = data.Count, true })
}

// advance changes the progress of the rebuild, if it is that, and ends it when all is there.
func (v *views) advance(ctx context.Context, tx *function.Tx, replay string, change func(*progress)) error {
	g, err := v.generation(ctx, tx)
	if err != nil || !g.builtBy(replay) {
		return err
	}
	p, _, err := v.progress.Find(ctx, tx, replay)
	if err != nil {
		return err
	}
	change(&p)
	if err := v.progress.Put(ctx, tx, replay, p); err != nil || !p.Known || p.Handled < p.Expected {
		return err
	}
	old := g.Live
	g.Live, g.Building, g.Finished = g.Building, 0, tx.Now()
	if err := v.generations.Put(ctx, tx, only, g); err != nil {
		return err
	}
	return v.remove(ctx, tx, old)
}

type rebuildOutput struct {
	Body struct {
		ReplayID string `json:"replay_id"`
	}
}

// rebuild begins a new generation and asks the archive to say everything again.
func (v *views) rebuild(ctx context.Context, tx *function.Tx, _ *struct{}) (*rebuildOutput, error) {
	g, err := v.generation(ctx, tx)
	if err != nil {
		return nil, err
	}
	if g.Building != 0 {
		if err := v.remove(ctx, tx, g.Building); err != nil {
			return nil, err
		}
	}
	if g.ReplayID != "" {
		if err := v.progress.Delete(ctx, tx, g.ReplayID); err != nil {
			return nil, err
		}
	}
	out := &rebuildOutput{}
	out.Body.ReplayID = tx.NewID()
	g.Last++
	g.Building, g.ReplayID, g.Begun, g.Finished = g.Last, out.Body.ReplayID, tx.Now(), time.Time{}
	if err := v.generations.Put(ctx, tx, only, g); err != nil {
		return nil, err
	}
	tx.Emit(event.ArchiveReplay.New(g.ReplayID, event.ReplayEvents{ReplayID: g.ReplayID, To: "views", Types: replayable()}))
	return out, nil
}

type showOutput struct {
	Body struct {
		State      string    `json:"state" enum:"none,building,done"`
		Live       int64     `json:"live" doc:"The generation that is read."`
		Building   int64     `json:"building,omitempty"`
		ReplayID   string    `json:"replay_id,omitempty"`
		BegunAt    time.Time `json:"begun_at,omitzero"`
		FinishedAt time.Time `json:"finished_at,omitzero"`
		Handled    int       `json:"handled" doc:"Events that were replayed and taken."`
		Expected   *int      `json:"expected,omitempty" doc:"How many there are, once the archive has said all of them."`
		Removing   []int64   `json:"removing,omitempty" doc:"Generations whose documents are still being removed."`
	}
}

func (v *views) showRebuild(ctx context.Context, tx *function.Tx, _ *struct{}) (*showOutput, error) {
	g, err := v.generation(ctx, tx)
	if err != nil {
		return nil, err
	}
	p, _, err := v.progress.Find(ctx, tx, g.ReplayID)
	if err != nil {
		return nil, err
	}
	r, _, err := v.removals.Find(ctx, tx, only)
	if err != nil {
		return nil, err
	}
	out := &showOutput{}
	b := &out.Body
	b.State = "none"
	switch {
	case g.Building != 0:
		b.State = "building"
	case g.ReplayID != "":
		b.State = "done"
	}
	b.Live, b.Building, b.ReplayID, b.BegunAt, b.FinishedAt = g.Live, g.Building, g.ReplayID, g.Begun, g.Finished
	b.Handled, b.Removing = p.Handled, r.Generations
	if p.Known {
		b.Expected = &p.Expected
	}
	return out, nil
}

// removal lists the generations that are gone but for their documents.
type removal struct {
	Generations []int64   `json:"generations,omitempty"`
	At          time.Time `json:"at,omitzero"` // of the last step
}

// A step of tidying is small and comes at most so often, so that it never weighs on the events it travels with.
const (
	tidyMost  = 200
	tidyEvery = time.Second
)

func (v *views) remove(ctx context.Context, tx *function.Tx, generation int64) error {
	r, _, err := v.removals.Find(ctx, tx, only)
	if err != nil {
		return err
	}
	r.Generations = append(r.Generations, generation)
	return v.removals.Put(ctx, tx, only, r)
}

// tidy removes a few documents of a generation that is gone.
func (v *views) tidy(ctx context.Context, tx *function.Tx) error {
	r, _, err := v.removals.Find(ctx, tx, only)
	if err != nil || len(r.Generations) == 0 || tx.Now().Sub(r.At) < tidyEvery {
		return err
	}
	r.At = tx.Now()
	gone, err := empty(ctx, tx, v.orders, r.Generations[0], "placed")
	if err != nil {
		return err
	}
	if gone {
		if gone, err = empty(ctx, tx, v.revenue, r.Generations[0], "customer_id"); err != nil {
			return err
		}
	}
	if gone {
		r.Generations = slices.Clone(r.Generations[1:])
	}
	return v.removals.Put(ctx, tx, only, r)
}

// empty deletes a few documents of a generation and reports whether those were the last.
func empty[T any](ctx context.Context, tx *function.Tx, c *store.Collection[T], generation int64, order string) (bool, error) {
	page, err := c.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "generation", Op: store.Equal, Value: generation}},
		Order: []store.Order{{Field: order}},
		Limit: tidyMost,
	})
	if err != nil {
		return false, err
	}
	for _, item := range page.Items {
		if err := c.Delete(ctx, tx, item.ID); err != nil {
			return false, err
		}
	}
	return page.Next == "", nil
}
