package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// Letters returns a system whose archive gets dead letters, each more than once, while an administrator drops some.
// What was dropped stays dropped: a delivery that comes again does not undo it.
func Letters(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return letters(sim, r, b) },
	}
}

// reader is who has not accepted the letters.
const reader = "/functions/reader"

func letters(sim *simulate.Simulation, r *rand.Rand, b Broken) *simulate.Scenario {
	dropped := map[string]bool{}
	sc := &simulate.Scenario{
		Check: func(sim *simulate.Simulation) {
			for id, l := range documents[struct{ State string }](sim, "archive", "dead_letters") {
				if dropped[id] && l.State != "dropped" {
					sim.Violated("a dead letter that was dropped is %s", l.State)
				}
			}
		},
	}
	for _, f := range []simulate.Function{
		{Name: "archive", New: archiving, Next: archiving, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
	} {
		if b.Change != nil {
			b.Change(&f)
		}
		sc.Functions = append(sc.Functions, f)
	}
	add := func(at time.Duration, what string, do func(sim *simulate.Simulation)) {
		sc.Actions = append(sc.Actions, simulate.Action{At: at, What: what, Do: do})
	}
	for n := range 3 + r.IntN(8) {
		at, id := time.Duration(r.Int64N(int64(time.Minute))), fmt.Sprint("l", n)
		e := emitted(sim, n, noteWritten.New(id, note{ID: id}), 1)
		e.SetExtension(broker.ErrorDest, reader)
		e.SetExtension(broker.ErrorCode, 422)
		sum := sha256.Sum256([]byte(reader + "\x00" + e.Source() + "\x00" + e.ID()))
		letter := hex.EncodeToString(sum[:16])
		for range 2 + r.IntN(2) {
			add(at+time.Duration(r.Int64N(int64(20*time.Second))), "letter "+id+" arrives", func(sim *simulate.Simulation) {
				sim.Publish(e)
				sim.Count("letters", 1)
			})
		}
		add(at+time.Duration(r.Int64N(int64(20*time.Second))), "letter "+id+" is dropped", func(sim *simulate.Simulation) {
			sim.Send(simulate.Request{
				Function: "archive", Method: http.MethodDelete, Path: "/api/archive/dead-letters/" + letter, Token: token("admin"),
			}, func(a simulate.Response) {
				if a.OK() {
					dropped[letter] = true
					sim.Count("dropped", 1)
				}
			})
		})
	}
	return sc
}
