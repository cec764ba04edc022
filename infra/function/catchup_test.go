package function_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// besideArchive has a function be deployed beside an archive.
func besideArchive() functiontest.Option {
	system := manifest.System{Functions: []*manifest.Declaration{
		{Function: manifest.Function{Name: "archive", Emits: []string{event.ArchiveReplayed.Name()}}},
	}}
	return functiontest.Beside(func() manifest.System { return system })
}

// asked returns what the function has asked the archive for since the last look.
func (n *notes) asked() (all []event.ReplayEvents) {
	n.h.T.Helper()
	for _, e := range n.h.Emitted() {
		if e.Type() == event.ArchiveReplay.Name() {
			data, err := event.ArchiveReplay.Decode(e)
			if err != nil {
				n.h.T.Fatal(err)
			}
			all = append(all, data)
		}
	}
	return all
}

// A function that is new asks once, at the first sweep, for the keys and the revocations from before it was there, for
// itself alone. What comes then counts as if it had come in time.
func TestCatchUp(t *testing.T) {
	n := newNotes(t, besideArchive())
	if got := n.asked(); len(got) > 0 {
		t.Errorf("asked for %+v before its trigger is known to exist", got)
	}
	sweep := func() { n.h.MustDeliver(event.ClockSwept.New("clock", event.SweptClock{At: n.h.Clock.Now()})) }
	sweep()
	asked := n.asked()
	var types []string
	for _, r := range asked {
		types = append(types, r.Types...)
		if r.To != "notes" || r.Subject != "" || !r.Until.IsZero() || !r.Since.Before(n.h.Clock.Now().Add(-23*time.Hour)) {
			t.Errorf("got %+v", r)
		}
	}
	if want := []string{event.APIKeyChanged.Name(), event.AccessRevoked.Name()}; !slices.Equal(types, want) {
		t.Errorf("asked for %v, want %v", types, want)
	}
	n.h.Restart()
	n.h.Clock.Advance(time.Hour)
	sweep()
	if got := n.asked(); len(got) > 0 {
		t.Errorf("asked again: %+v", got)
	}

	key := apikey.New()
	n.with(key, "GET", "/api/notes/n").Expect(401)
	past := n.h.Event(keyEvent(n.h, key, nil))
	past.SetExtension(event.Replay, asked[0].ReplayID)
	past.SetExtension(event.ReplayTo, "notes")
	for _, r := range n.h.Receive(past) {
		if !r.OK() {
			t.Errorf("got %+v", r)
		}
	}
	n.with(key, "GET", "/api/notes/n").Expect(200)
}

// Where no archive is deployed, nothing is asked for until there is one.
func TestCatchUpWithoutArchive(t *testing.T) {
	n := newNotes(t)
	n.h.MustDeliver(event.ClockSwept.New("clock", event.SweptClock{At: n.h.Clock.Now()}))
	if es := n.h.Emitted(); len(es) > 0 {
		t.Errorf("emitted %v", functiontest.Types(es))
	}
}
