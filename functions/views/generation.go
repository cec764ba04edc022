package views

import (
	"context"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// generations is the document with the numbers of the live generation and of the one that is being built.
type generations struct {
	Live     int64     `json:"live"`
	Building int64     `json:"building,omitempty"` // 0: no rebuild runs
	Last     int64     `json:"last"`               // the highest number used
	ReplayID string    `json:"replay_id,omitempty"`
	Begun    time.Time `json:"begun,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

const only = "only" // the id of the single document of a collection

func (v *views) generation(ctx context.Context, tx *function.Tx) (generations, error) {
	g, ok, err := v.generations.Find(ctx, tx, only)
	if !ok {
		g = generations{Live: 1, Last: 1}
	}
	return g, err
}

// targets returns the generations that the handled event is written to.
func (v *views) targets(ctx context.Context, tx *function.Tx) ([]int64, error) {
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

// progress counts a rebuild's replayed events. It is not a part of generations, because every live event reads those.
type progress struct {
	Handled  int  `json:"handled"`
	Expected int  `json:"expected"`
	Known    bool `json:"known"` // Expected is known
}

// tracked returns a handler that calls h, counts the replayed events of a rebuild, and removes old documents.
func tracked[T any](
	v *views, h func(context.Context, *function.Tx, T) error,
) func(context.Context, *function.Tx, T) error {
	return func(ctx context.Context, tx *function.Tx, data T) error {
		if err := h(ctx, tx, data); err != nil {
			return err
		}
		if err := v.advance(ctx, tx, replayOf(tx), func(p *progress) { p.Handled++ }); err != nil {
			return err
		}
		return v.removeOld(ctx, tx)
	}
}

// replayed stores how many events the replay has.
func (v *views) replayed(ctx context.Context, tx *function.Tx, data event.FinishedReplay) error {
	return v.advance(ctx, tx, data.ReplayID, func(p *progress) { p.Expected, p.Known = data.Count, true })
}

// advance changes the progress of a rebuild, and ends the rebuild when all its events are handled. Replays of other
// rebuilds change nothing.
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

// rebuild starts a new generation and asks the archive to replay all events.
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
	tx.Emit(
		event.ArchiveReplay.New(g.ReplayID, event.ReplayEvents{ReplayID: g.ReplayID, To: "views", Types: replayable()}),
	)
	return out, nil
}

type showOutput struct {
	Body struct {
		State      string    `json:"state" enum:"none,building,done"`
		Live       int64     `json:"live" doc:"The number of the generation that is read."`
		Building   int64     `json:"building,omitempty"`
		ReplayID   string    `json:"replay_id,omitempty"`
		BegunAt    time.Time `json:"begun_at,omitzero"`
		FinishedAt time.Time `json:"finished_at,omitzero"`
		Handled    int       `json:"handled" doc:"Replayed events handled so far."`
		Expected   *int      `json:"expected,omitempty" doc:"All events of the replay, once the archive has counted them."`
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

// removal lists the replaced generations whose documents are not all removed yet.
type removal struct {
	Generations []int64   `json:"generations,omitempty"`
	At          time.Time `json:"at,omitzero"` // of the last step
}

// The limits of removing old documents, so that it does not slow down the events that trigger it.
const (
	removeBatch    = 200 // documents
	removeInterval = time.Second
)

// remove marks a generation for removal.
func (v *views) remove(ctx context.Context, tx *function.Tx, generation int64) error {
	r, _, err := v.removals.Find(ctx, tx, only)
	if err != nil {
		return err
	}
	r.Generations = append(r.Generations, generation)
	return v.removals.Put(ctx, tx, only, r)
}

// removeOld removes a few documents of a generation that is marked for removal.
func (v *views) removeOld(ctx context.Context, tx *function.Tx) error {
	r, _, err := v.removals.Find(ctx, tx, only)
	if err != nil || len(r.Generations) == 0 || tx.Now().Sub(r.At) < removeInterval {
		return err
	}
	r.At = tx.Now()
	done, err := removeSome(ctx, tx, v.orders, r.Generations[0], "placed")
	if err != nil {
		return err
	}
	if done {
		if done, err = removeSome(ctx, tx, v.revenue, r.Generations[0], "customer_id"); err != nil {
			return err
		}
	}
	if done {
		r.Generations = slices.Clone(r.Generations[1:])
	}
	return v.removals.Put(ctx, tx, only, r)
}

// removeSome deletes a few documents of a generation, no more than the database takes beside the rest of the unit of
// work, and reports whether they were the last. order is a field of an index.
func removeSome[T any](
	ctx context.Context, tx *function.Tx, c *store.Collection[T], generation int64, order string,
) (bool, error) {
	page, err := c.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "generation", Op: store.Equal, Value: generation}},
		Order: []store.Order{{Field: order}},
		Limit: tx.StoreTx().Portion(removeBatch),
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
