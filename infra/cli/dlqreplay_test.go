package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// letters is an archive with dead letters n000, n001 and so on, one a minute; those in fails fail again when replayed.
type letters struct {
	mu       sync.Mutex
	all      []*deadLetter
	replayed []string
	fails    map[string]bool
}

var lettersBegan = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newLetters(f *fake, n int) *letters {
	l := &letters{fails: map[string]bool{}}
	for i := range n {
		d := &deadLetter{
			ID: fmt.Sprintf("n%03d", i), State: "waiting", At: lettersBegan.Add(time.Duration(i) * time.Minute), Times: 1,
			Function: []string{"orders", "payments"}[i%2], Code: []string{"503", "422", "502"}[i%3], Reason: "the store is away",
			Event: json.RawMessage(`{"type":"dev.ebb.orders.placed.v1"}`),
		}
		if d.Code == "422" {
			d.Reason = "it is wrong"
		}
		l.all = append(l.all, d)
	}
	f.mux.HandleFunc("GET /api/archive/dead-letters", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		var waiting []*deadLetter
		for _, d := range slices.Backward(l.all) {
			if d.State == "waiting" {
				waiting = append(waiting, d)
			}
		}
		slices.SortStableFunc(waiting, func(a, b *deadLetter) int { return b.At.Compare(a.At) })
		from := 0
		fmt.Sscan(r.URL.Query().Get("cursor"), &from)
		page := map[string]any{"items": waiting[from:min(from+200, len(waiting))]}
		if from+200 < len(waiting) {
			page["next"] = fmt.Sprint(from + 200)
		}
		_ = json.NewEncoder(w).Encode(page)
	})
	f.mux.HandleFunc("POST /api/archive/dead-letters/{id}/replay", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, d := range l.all {
			if d.ID == r.PathValue("id") {
				l.replayed = append(l.replayed, d.ID)
				d.State = "replayed"
				if l.fails[d.ID] {
					d.State, d.At, d.Times = "waiting", time.Now(), d.Times+1
				}
			}
		}
		w.WriteHeader(202)
		_, _ = io.WriteString(w, "{}")
	})
	return l
}

// Flags select dead letters by time, cause, code, function and type; they are replayed once each, the oldest first.
func TestReplaySelects(t *testing.T) {
	for args, want := range map[string]int{
		"--all":                           250,
		"--code 502,503":                  167,
		"--code 422 --function orders":    41,
		"--since 2026-03-01T13:00:00Z":    190,
		"--until 2026-03-01T12:59:00Z":    60,
		"--since 876000h --cause away":    167,
		"--type orders.placed":            250,
		"--type dev.ebb.orders.placed.v1": 250,
		"--type orders.place":             0,
		"--function nobody":               0,
	} {
		f := newFake(t)
		l := newLetters(f, 250)
		code, out, errs, _ := f.run(t, append([]string{"dlq", "replay", "--watch", "0s"}, strings.Fields(args)...)...)
		if code != 0 || len(l.replayed) != want || !slices.IsSorted(l.replayed) {
			t.Errorf("%s: got %d, %q, %q; %d were replayed, want %d", args, code, out, errs, len(l.replayed), want)
		}
		if want == 250 && !strings.HasPrefix(out, "1 of 250 are on their way again.\n11 of 250 are on their way again.\n"+
			"111 of 250 are on their way again.\n250 of 250 ") {
			t.Errorf("%s: got %q", args, out)
		}
	}
}

// It stops at the first dead letter that fails again.
func TestReplayStops(t *testing.T) {
	f := newFake(t)
	l := newLetters(f, 250)
	l.fails["n005"] = true
	code, _, errs, _ := f.run(t, "dlq", "replay", "--all", "--watch", "0s")
	want := "n005 failed again in payments: 502 the store is away; 11 of 250"
	if code != exitFailed || len(l.replayed) != 11 || !strings.Contains(errs, want) {
		t.Errorf("got %d, %q; %d were replayed", code, errs, len(l.replayed))
	}
}

// Without an id something must be selected, and nothing beside an id.
func TestReplayUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                  "wants one id, or flags",
		"a b":               "wants one id, or flags",
		"a --all":           "exclude each other",
		"--since yesterday": "invalid --since",
		"--all --watch -1s": "must not be negative",
	} {
		f := newFake(t)
		code, _, errs, asked := f.run(t, append([]string{"dlq", "replay"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(errs, want) || len(asked) > 0 {
			t.Errorf("%q: got %d, %q, asked %q", args, code, errs, asked)
		}
	}
}
