package saga_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/saga"
)

// Progress is found wherever a document keeps it, and tells whether a deadline or something else had it undone.
func TestFind(t *testing.T) {
	s := declared(t)
	running, _ := s.Start(order{}, start)
	expired, _, _ := s.Expired(running, order{}, start.Add(time.Minute))
	cancelled, _, _ := s.Cancel(running, order{}, "a change of mind", start)
	document, err := json.Marshal(map[string]any{
		"a": running, "b": []any{map[string]any{"saga": expired}, 7, "steps"}, "c": map[string]any{"saga": cancelled},
		"d": map[string]any{"status": "running", "steps": []string{"no saga"}},
		"e": map[string]any{"status": "new", "steps": running.Steps},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := saga.Find(document)
	if len(got) != 3 || got[0].Status != saga.Running || got[1].Status != saga.Undoing || got[2].Status != saga.Undoing {
		t.Fatalf("got %+v", got)
	}
	if a, b, c := got[0].Expired(), got[1].Expired(), got[2].Expired(); a != "" || b != "reserve" || c != "" {
		t.Errorf("expired: got %q, %q, %q", a, b, c)
	}
	if got[1].Steps[0].UndoingAt.IsZero() {
		t.Errorf("got %+v", got[1].Steps[0])
	}
	for _, text := range []string{"", "no JSON", "[1,", `{"status":1}`, "7"} {
		if got := saga.Find([]byte(text)); got != nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}
