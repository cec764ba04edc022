package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// sheet is the data of the bindery's events. It can be bound when it was mended, unless it is torn.
type sheet struct {
	ID     string `json:"id"`
	Mended int    `json:"mended"`
	Torn   bool   `json:"torn,omitempty"`
}

var sheetPrinted = event.Define(depotEvents, "press.printed", 1, event.Fact, "A sheet is printed.",
	sheet{"s1", 1, true}, sheet{ID: "s1"})

// bound is how often a sheet was bound.
type bound struct {
	Times int `json:"times"`
}

func bindery(e function.Env) (*function.Function, error) {
	f := function.New("bindery", e)
	sheets := function.Collection[bound](f, "sheets")
	function.On(f, sheetPrinted, func(ctx context.Context, tx *function.Tx, s sheet) error {
		if s.Mended == 0 || s.Torn {
			return fault.New(fault.Invalid, "the sheet %q cannot be bound", s.ID)
		}
		b, _, err := sheets.Find(ctx, tx, s.ID)
		if err != nil {
			return err
		}
		b.Times++
		return sheets.Put(ctx, tx, s.ID, b)
	})
	return f, nil
}

// Mends returns a system whose operators mend dead letters by several jobs at once, stop them and have them go on. Each
// letter is mended and sent once, what can be handled is handled once, and every job ends.
func Mends(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return mends(sim, r, b) },
	}
}

func mends(sim *simulate.Simulation, r *rand.Rand, b Broken) *simulate.Scenario {
	torn := map[string]bool{}
	sc := &simulate.Scenario{
		Refused: func(_ string, e ce.Event) bool { return e.Type() == sheetPrinted.Name() },
		Check:   func(sim *simulate.Simulation) { checkMends(sim, torn) },
	}
	for _, f := range []simulate.Function{
		{Name: "archive", New: archiving, Next: archiving, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
		{Name: "bindery", New: bindery, Next: bindery, Env: env("30s")},
	} {
		if b.Change != nil {
			b.Change(&f)
		}
		sc.Functions = append(sc.Functions, f)
	}
	add := func(at time.Duration, what string, do func(sim *simulate.Simulation)) {
		sc.Actions = append(sc.Actions, simulate.Action{At: at, What: what, Do: do})
	}
	for n := range 5 + r.IntN(30) {
		id := fmt.Sprint("s", n)
		torn[id] = r.IntN(12) == 0
		e := emitted(sim, n, sheetPrinted.New(id, sheet{ID: id, Torn: torn[id]}), 1)
		add(time.Duration(r.Int64N(int64(30*time.Second))), "sheet "+id+" is printed", func(sim *simulate.Simulation) {
			sim.Publish(e)
			sim.Count("sheets", 1)
		})
	}
	const path = "/api/archive/mends"
	send := func(path string, body map[string]any, done func(simulate.Response)) {
		sim.Send(simulate.Request{
			Function: "archive", Method: http.MethodPost, Path: path, Token: token("admin"), Body: body,
		}, done)
	}
	for n := range 1 + r.IntN(3) {
		begin, watch := 40*time.Second+time.Duration(r.Int64N(int64(20*time.Second))), []int{0, 1, 5}[r.IntN(3)]
		acts := 1 + r.IntN(3)
		add(begin, fmt.Sprint("mend ", n, " is started"), func(sim *simulate.Simulation) {
			body := map[string]any{
				"where": "data.mended == 0", "transform": `{"mended": data.mended + 1}`, "reason": "a test", "watch": watch,
			}
			send(path, body, func(a simulate.Response) {
				var m struct{ ID string }
				if !a.OK() || json.Unmarshal(a.Body, &m) != nil {
					return
				}
				sim.Count("mends", 1)
				for i := range acts {
					act := "continue"
					if i == 0 && n == 1 {
						act = "stop"
					}
					sim.After(time.Duration(i+1)*20*time.Second, func() {
						send(path+"/"+m.ID+"/"+act, map[string]any{"reason": "a test"}, func(simulate.Response) {})
					})
				}
			})
		})
	}
	return sc
}

func checkMends(sim *simulate.Simulation, torn map[string]bool) {
	sent := 0
	for id, m := range documents[struct {
		State string
		Sent  int
	}](sim, "archive", "mends") {
		if sent += m.Sent; m.State == "running" {
			sim.Violated("the mend %s does not end", id)
		}
	}
	sheets, marked := documents[bound](sim, "bindery", "sheets"), 0
	for id, l := range documents[struct {
		State, Mend, Type string
		Replays           int
		Event             struct{ Data json.RawMessage }
	}](sim, "archive", "dead_letters") {
		var s sheet
		if l.Type != sheetPrinted.Name() || json.Unmarshal(l.Event.Data, &s) != nil {
			continue // poison
		}
		if l.Mend != "" {
			marked++
		}
		if s.Mended > 1 || l.Replays > 1 {
			sim.Violated("the letter %s of %s was mended %d times and sent %d times", id, s.ID, s.Mended, l.Replays)
		}
		if times := sheets[s.ID].Times; l.Mend != "" && !torn[s.ID] && times != 1 {
			sim.Violated("%s was mended, and bound %d times", s.ID, times)
		}
		if torn[s.ID] && l.State != "waiting" {
			sim.Violated("%s cannot be bound, and its letter is %s", s.ID, l.State)
		}
	}
	if sent != marked {
		sim.Violated("the mends have sent %d, and %d letters were sent by them", sent, marked)
	}
	sim.Count("mended", marked)
}
