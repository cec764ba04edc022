package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/cron"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// Almanac returns a system with a recurring schedule of which every run is made, in whatever instance of the clock and
// of the function: once, and in order.
func Almanac(change func(*simulate.Function)) simulate.System {
	return simulate.System{
		Horizon: 40 * time.Minute, Settle: 20 * time.Minute,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			every := 2 + r.IntN(6)
			sc := &simulate.Scenario{
				Functions: []simulate.Function{
					{Name: "almanac", New: noting(every), Next: noting(every), Env: env("30s")},
					{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
				},
				Check: func(sim *simulate.Simulation) { checkRuns(sim, time.Duration(every)*time.Minute) },
			}
			for i := range sc.Functions {
				if change != nil {
					change(&sc.Functions[i])
				}
			}
			return sc
		},
	}
}

// page is what the almanac notes of a run.
type page struct {
	At    time.Time `json:"at"`
	Times int       `json:"times"`
}

func noting(every int) func(function.Env) (*function.Function, error) {
	return func(e function.Env) (*function.Function, error) {
		f := function.New("almanac", e)
		pages := function.Collection[page](f, "pages")
		cron.On(f, cron.Schedule{
			Name: "page", Expression: fmt.Sprintf("*/%d * * * *", every), Zone: "Europe/Berlin",
			Missed: cron.RunAll, Limit: 100,
			Do: func(ctx context.Context, tx *function.Tx, run cron.Run) error {
				id := run.At.UTC().Format(time.RFC3339)
				p, _, err := pages.Find(ctx, tx, id)
				if err != nil {
					return err
				}
				return pages.Put(ctx, tx, id, page{At: run.At, Times: p.Times + 1})
			},
		})
		return f, nil
	}
}

// checkRuns checks that from the first run on each one was made once, up to now.
func checkRuns(sim *simulate.Simulation, every time.Duration) {
	var last time.Time
	for _, d := range sim.Documents("almanac", "pages") {
		var p page
		if err := json.Unmarshal(d.Data, &p); err != nil {
			sim.Violated("a page cannot be read: %v", err)
			return
		}
		next := last.Add(every)
		if at := last.Truncate(time.Hour).Add(time.Hour); next.After(at) { // "*/7" begins again with each hour
			next = at
		}
		switch {
		case p.Times != 1:
			sim.Violated("a run of a schedule is made more than once: %s", fmt.Sprint(p.At, " ", p.Times, " times"))
		case !last.IsZero() && !p.At.Equal(next):
			sim.Violated("a run of a schedule is missing: %s", fmt.Sprint("after ", last, " comes ", p.At))
		}
		last = p.At
		sim.Count("runs", 1)
	}
	if late := sim.Now().Sub(last); late > every+time.Minute {
		sim.Violated("the runs of a schedule have stopped: %s", fmt.Sprint("the last one ", late, " ago"))
	}
}
