package clock_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
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
