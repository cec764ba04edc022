package storetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The number and size of the recorded histories. Few documents and many clients cause many conflicts; the search for an
// order is fast for short histories.
const (
	histories   = 40
	clients     = 6
	calls       = 8 // of each client
	cells       = 3 // documents
	cellsPrefix = "cell "
)

// cell is the content of one document; version 0: it is missing. Every write has a unique value. Last is the largest
// version of a deleted document.
type cell struct{ Version, Value, Last int64 }

// seen returns the cell as a read returns it: the last version of a missing document only.
func (c cell) seen() cell {
	if c.Version > 0 {
		c.Last = 0
	}
	return c
}

// cellsState is the model's database. It is comparable, which porcupine uses.
type cellsState [cells]cell

// cellCall is one call of a driver. A read returns the cells of the mask, by key or by query; a write sets those of the
// mask or deletes them, when those of expect have their versions.
type cellCall struct {
	write, query bool
	mask         [cells]bool
	checks       [cells]bool
	expect       [cells]int64
	last         [cells]int64 // that the client has seen, for creates
	values       [cells]int64 // 0: delete
}

// cellAnswer is the result of a call: the cells that were read, or whether the write was applied.
type cellAnswer struct {
	seen      cellsState
	committed bool
}

// cellsModel returns the model of a driver: a table in which each call is atomic.
func cellsModel(first cellsState) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, output any) (bool, any) {
			s, c, a := state.(cellsState), input.(cellCall), output.(cellAnswer)
			if !c.write {
				for i, asked := range c.mask {
					if asked && !c.agrees(s[i], a.seen[i]) {
						return false, s
					}
				}
				return true, s
			}
			holds := true
			for i, checked := range c.checks {
				creates := c.mask[i] && c.values[i] != 0 && c.expect[i] == 0
				holds = holds && (!checked || s[i].Version == c.expect[i] && (!creates || c.newVersion(i) > s[i].Last))
			}
			if holds != a.committed {
				return false, s
			}
			if holds {
				s = c.apply(s)
			}
			return true, s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
	}
}

// agrees reports whether a read that found a cell may have this result. A query does not tell what is missing.
func (c cellCall) agrees(now, result cell) bool {
	now = now.seen()
	if c.query {
		now.Last = 0
	}
	return now == result
}

func (c cellCall) apply(s cellsState) cellsState {
	for i, written := range c.mask {
		switch {
		case written && c.values[i] == 0:
			s[i] = cell{Last: max(s[i].Last, s[i].Version)}
		case written:
			s[i] = cell{c.newVersion(i), c.values[i], s[i].Last}
		}
	}
	return s
}

// newVersion returns the version of a write: one more than the expected one, or than the last one of a missing
// document, or the unique value when none is expected.
func (c cellCall) newVersion(i int) int64 {
	if c.checks[i] {
		return max(c.expect[i], c.last[i]) + 1
	}
	return c.values[i]
}

// linearizable records the results of concurrent clients, with several handles if the driver can open them, and
// searches for an order in which sequential calls have the same results.
func linearizable(t *testing.T, h Harness) {
	handles := []store.Driver{h.open(t)}
	if h.Reopen != nil {
		handles = append(handles, h.reopen(t, Schema))
	}
	for n := range cmp.Or(h.Histories, histories) {
		first, history := record(t, handles, int64(n))
		if t.Failed() {
			return
		}
		if !porcupine.CheckOperations(cellsModel(first), history) {
			t.Fatalf("history %d is not linearizable:\n%s", n, describeHistory(history))
		}
	}
}

func record(
	t *testing.T, handles []store.Driver, seed int64,
) (first cellsState, history []porcupine.Operation) {
	for i := range cells {
		commit(t, handles[0], remove(cellKey(i)))
		first[i].Last = get(t, handles[0], cellKey(i))[0].Last
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	start, begin := make(chan struct{}), time.Now()
	for id := range clients {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(id)))
			known := first // the cells that the client has read last, which its writes expect
			<-start
			for n := range calls {
				c := someCall(r, known, int64(1000*(id+1)+n+1))
				op := porcupine.Operation{ClientId: id, Input: c, Call: time.Since(begin).Nanoseconds()}
				a, ok := c.run(t, handles[id%len(handles)])
				op.Output, op.Return = a, time.Since(begin).Nanoseconds()
				if !ok {
					return
				}
				known = c.learn(known, a)
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	close(start)
	running.Wait()
	return first, history
}

func someCall(r *rand.Rand, known cellsState, value int64) (c cellCall) {
	kind := r.IntN(10)
	c.write, c.query = kind >= 5, kind == 0
	for i := range cells {
		c.mask[i] = c.query || r.IntN(2) == 0
		c.checks[i] = c.write && (c.mask[i] && r.IntN(8) > 0 || r.IntN(4) == 0)
		c.expect[i] = known[i].Version
		if known[i].Version == 0 {
			c.last[i] = known[i].Last
		}
		if r.IntN(6) > 0 {
			c.values[i] = value
		}
	}
	return c
}

// learn returns the cells that a client knows after a result.
func (c cellCall) learn(known cellsState, a cellAnswer) cellsState {
	if c.write {
		if a.committed {
			known = c.apply(known)
		}
		return known
	}
	for i, asked := range c.mask {
		if asked {
			a.seen[i].Last = max(a.seen[i].Last, known[i].Last)
			known[i] = a.seen[i]
		}
	}
	return known
}

func (c cellCall) run(t *testing.T, d store.Driver) (a cellAnswer, ok bool) {
	var err error
	switch {
	case c.write:
		err = d.Commit(t.Context(), c.batch())
		a.committed = err == nil
		if fault.Is(err, fault.Conflict) {
			err = nil
		}
	case c.query:
		var docs []store.Document
		docs, _, err = d.Query(t.Context(), store.Query{Collection: "things", Limit: 10})
		a.see(docs)
	default:
		var docs []store.Document
		docs, err = d.Get(t.Context(), c.keys()...)
		a.see(docs)
	}
	if err != nil {
		t.Errorf("%+v: %v", c, err)
	}
	return a, err == nil
}

func (c cellCall) keys() (keys []store.Key) {
	for i, asked := range c.mask {
		if asked {
			keys = append(keys, cellKey(i))
		}
	}
	return keys
}

func (c cellCall) batch() (b store.Batch) {
	for i := range cells {
		if c.checks[i] {
			b.Preconditions = append(b.Preconditions, at(cellKey(i), c.expect[i]))
		}
		switch {
		case c.mask[i] && c.values[i] == 0:
			b.Mutations = append(b.Mutations, remove(cellKey(i)))
		case c.mask[i]:
			b.Mutations = append(b.Mutations, put(cellKey(i), c.newVersion(i), fmt.Sprintf(`{"n":%d}`, c.values[i])))
		}
	}
	return b
}

func (a *cellAnswer) see(docs []store.Document) {
	for _, d := range docs {
		var fields struct{ N int64 }
		if d.Version > 0 && json.Unmarshal(d.Data, &fields) != nil {
			continue
		}
		var i int
		if _, err := fmt.Sscanf(d.ID, cellsPrefix+"%d", &i); err == nil && i < cells {
			a.seen[i] = cell{d.Version, fields.N, d.Last}
		}
	}
}

func cellKey(i int) store.Key { return thing(fmt.Sprint(cellsPrefix, i)) }

func describeHistory(history []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range history {
		c, a := op.Input.(cellCall), op.Output.(cellAnswer)
		fmt.Fprintf(&b, "%9d – %9d ns  client %d  ", op.Call, op.Return, op.ClientId)
		if c.write {
			fmt.Fprintf(&b, "commit %s: %v\n", show(c.batch()), a.committed)
		} else {
			fmt.Fprintf(&b, "read %v (query %v): %v\n", c.mask, c.query, a.seen)
		}
	}
	return b.String()
}
