package clock_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Administrators see the timers that have not fired, by their due time, page by page. Other callers are refused.
func TestList(t *testing.T) {
	h := functiontest.New(t, clock.New)
	for timer, in := range map[string]time.Duration{"c": 3 * time.Minute, "a": time.Minute, "b": 2 * time.Minute} {
		command, _ := deadline(t, h, timer, in)
		h.MustDeliver(command)
	}
	h.MustDeliver(event.ClockCancel.New("b", event.CancelTimer{TimerID: "b"}))
	var got []string
	for cursor, pages := "", 0; ; pages++ {
		var page struct {
			Items []clock.Pending
			Next  string
		}
		h.Call("GET", "/api/timers?limit=1"+cursor, functiontest.Admin(), nil).Expect(200).JSON(&page)
		for _, p := range page.Items {
			got = append(got, p.ID)
			if p.Type != deadlinePassed.Name() || p.Subject != p.ID || p.EventID == "" ||
				!p.Due.After(h.Clock.Now()) {
				t.Errorf("got %+v", p)
			}
		}
		if page.Next == "" {
			break
		}
		if cursor = "&cursor=" + page.Next; pages > 3 {
			t.Fatal("the pages do not end")
		}
	}
	if want := []string{"a", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	h.Clock.Advance(time.Minute)
	h.Tick()
	var rest struct{ Items []clock.Pending }
	h.Call("GET", "/api/timers", functiontest.Admin(), nil).Expect(200).JSON(&rest)
	if len(rest.Items) != 1 || rest.Items[0].ID != "c" {
		t.Errorf("after a has fired: got %+v", rest.Items)
	}
	h.Call("GET", "/api/timers", functiontest.As("ada"), nil).Expect(403)
	h.Call("GET", "/api/timers", functiontest.Nobody, nil).Expect(401)
}

// Administrators see the schedules of all functions with their next and last runs, in the zone of each.
func TestListSchedules(t *testing.T) {
	nightly := manifest.Schedule{Name: "nightly", Expression: "0 3 * * *", Zone: "Europe/Berlin", Missed: "skip"}
	d := deploy(t, nightly, hourly("once", 0))
	d.pass(31 * time.Minute)
	var page struct{ Items []clock.Recurring }
	d.Call("GET", "/api/schedules", functiontest.Admin(), nil).Expect(200).JSON(&page)
	if len(page.Items) != 2 {
		t.Fatalf("got %+v", page.Items)
	}
	first, second := page.Items[0], page.Items[1]
	if first.Name != "hourly" || first.Function != "reports" || first.Cron != "30 * * * *" || first.Last == nil ||
		first.Next.Sub(*first.Last) != time.Hour {
		t.Errorf("got %+v", first)
	}
	if second.Name != "nightly" || second.Missed != "skip" || second.Last != nil ||
		second.Next.Format("15:04") != "03:00" {
		t.Errorf("got %+v", second)
	}
	d.Call("GET", "/api/schedules", functiontest.As("ada"), nil).Expect(403)
}
