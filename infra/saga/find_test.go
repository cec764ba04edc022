package saga

import (
	"encoding/json"
	"testing"
	"time"
)

// Progress is found wherever a document keeps it, and tells whether a deadline or something else had it undone.
func TestFind(t *testing.T) {
	m := newMachine(t, Declaration[order]{Steps: steps()})
	m.begin(t)
	running := m.state.Saga.clone()
	m.cancel(t)
	cancelled := m.state.Saga.clone()
	m.begin(t)
	m.pass(t, time.Minute)
	expired := m.state.Saga.clone()
	document, err := json.Marshal(map[string]any{
		"a": running, "b": []any{map[string]any{"saga": expired}, 7, "steps"}, "c": map[string]any{"saga": cancelled},
		"d": map[string]any{"status": "running", "steps": []string{"no saga"}},
		"e": map[string]any{"status": "new", "steps": running.Steps},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := Find(document)
	if len(got) != 3 || got[0].Status != Running || got[1].Status != Undoing || got[2].Status != Undoing {
		t.Fatalf("got %+v", got)
	}
	if a, b, c := got[0].Expired(), got[1].Expired(), got[2].Expired(); a != "" || b != "reserve" || c != "" {
		t.Errorf("expired: got %q, %q, %q", a, b, c)
	}
	if got[1].Steps[0].UndoingAt.IsZero() {
		t.Errorf("got %+v", got[1].Steps[0])
	}
	for _, text := range []string{"", "no JSON", "[1,", `{"status":1}`, "7"} {
		if got := Find([]byte(text)); got != nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}
