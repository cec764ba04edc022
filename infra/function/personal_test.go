package function_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// member is the data of an event with personal fields.
type member struct {
	ID    string `json:"id" minLength:"1" person:"id"`
	Name  string `json:"name" minLength:"3" personal:"erased"`
	Email string `json:"email" format:"email" personal:"erased@erased.invalid"`
	Plan  string `json:"plan"`
}

var memberJoined = event.Define(example, "members.joined", 1, event.Fact, "A member joined.",
	member{"m1", "Ada", "ada@example.com", "gold"})

// members makes a function that emits a member's data when it is told to ship something to the member.
func members(env function.Env) (*function.Function, error) {
	f := function.New("members", env)
	function.Emits(f, memberJoined)
	function.On(f, orderShip, func(_ context.Context, tx *function.Tx, _ orderRef) error {
		id := tx.Event().Subject()
		tx.Emit(memberJoined.New(id, member{id, "Ada " + id, id + "@example.com", "gold"}))
		return nil
	})
	return f, nil
}

// letters makes a function that consumes it, and stores what it got.
func letters(got *[]member) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("letters", env)
		function.On(f, memberJoined, func(_ context.Context, _ *function.Tx, m member) error {
			*got = append(*got, m)
			return nil
		})
		return f, nil
	}
}

func erased(id string) event.Draft {
	return event.PersonErased.New(id, event.ErasedPerson{PersonID: id})
}

// tells reports whether events or the stores of a function contain a text.
func tells(t *testing.T, h *functiontest.Harness, es []ce.Event, text string) bool {
	t.Helper()
	all := fmt.Sprint(es)
	for _, spec := range h.I.Declaration().Schema {
		for _, d := range documents(t, h, spec.Name) {
			all += string(d.Data)
		}
	}
	return strings.Contains(all, text)
}

// Personal fields are sent encrypted, and a handler gets them as they were. Nothing else of the event changes.
func TestPersonalFields(t *testing.T) {
	h := functiontest.New(t, members)
	h.MustDeliver(ship("m1"))
	es := h.Emitted()
	if len(es) != 1 || tells(t, h, es, "Ada m1") || tells(t, h, es, "m1@") {
		t.Fatalf("got %v", es)
	}
	data, err := memberJoined.Decode(es[0])
	if err != nil || (data != member{"m1", "erased", "erased@erased.invalid", "gold"}) {
		t.Errorf("whoever has no key reads %v, %v", data, err)
	}
	var got []member
	c := functiontest.New(t, letters(&got), functiontest.Once())
	c.Receive(es...)
	// An older sender encrypts nothing.
	c.MustDeliver(memberJoined.New("m2", member{"m2", "Grace", "grace@example.com", ""}))
	want := []member{{"m1", "Ada m1", "m1@example.com", "gold"}, {"m2", "Grace", "grace@example.com", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	moved := es[0].Clone() // to another event
	moved.SetID("another")
	if r := c.Receive(moved); r[0].Status != 422 {
		t.Errorf("encrypted values of another event: got %v", r)
	}
	taken := es[0].Clone()
	taken.SetID("a replay after an erasure")
	taken.SetExtension(event.PersonalKey, nil)
	if r := c.Receive(taken); !r[0].OK() || got[2].Name != "erased" {
		t.Errorf("without the key: got %v, %v", r, got)
	}
}

// When a person is erased the function's key is destroyed, and that is told. What it emits later about the person has
// placeholders only. Others are not concerned.
func TestErasure(t *testing.T) {
	h := functiontest.New(t, members)
	h.MustDeliver(ship("m1"), ship("m2"))
	before := h.Emitted()
	h.MustDeliver(erased("m1"), erased("m3"))
	h.Restart()
	h.MustDeliver(erased("m1"), ship("m1"), ship("m2"), ship("m3"))
	after := h.Emitted()
	if got, want := functiontest.Types(after), []string{"users.data-erased.v1", "users.data-erased.v1",
		"members.joined.v1", "members.joined.v1", "members.joined.v1"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	audit, err := event.DataErased.Decode(after[0])
	if err != nil || audit.PersonID != "m1" || audit.Function != "members" || !slices.Equal(audit.Erased,
		[]event.ErasedItem{{What: "key", Count: 1}}) {
		t.Errorf("got %v, %v", audit, err)
	}
	if none, err := event.DataErased.Decode(after[1]); err != nil || len(none.Erased) != 0 {
		t.Errorf("of a person without data: got %v, %v", none, err)
	}
	for _, e := range after[2:] {
		encrypted := event.Extension(e, event.PersonalValues) != ""
		if encrypted != (e.Subject() == "m2") {
			t.Errorf("%s: encrypted values %v", e.Subject(), encrypted)
		}
	}
	key := event.Extension(before[0], event.PersonalKey)
	if tells(t, h, nil, key) || !tells(t, h, nil, event.Extension(before[1], event.PersonalKey)) {
		t.Error("the key of m1 is stored still, or that of m2 is not")
	}
}

// A function that uses the system's keys declares so, starts without them, and does not start with what is none.
func TestPersonalSettings(t *testing.T) {
	d, err := function.Declare(members)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Settings) != 1 || d.Settings[0].Variable != "EBB_PERSONAL_KEYS" || d.Settings[0].Required ||
		!d.Settings[0].Secret {
		t.Errorf("got %v", d.Settings)
	}
	if !slices.Contains(d.Consumes, event.PersonErased.Name()) || !slices.Contains(d.Emits, event.DataErased.Name()) {
		t.Errorf("got %v, %v", d.Consumes, d.Emits)
	}
	for keys, want := range map[string]string{"": "", "x": "EBB_PERSONAL_KEYS"} {
		f, err := members(function.Env{
			Store: functiontest.New(t, members).Store, Lookup: config.Map(map[string]string{"EBB_PERSONAL_KEYS": keys}),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = f.Instance().Start(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("with %q: got %v", keys, err)
		}
	}
	if d, err = function.Declare(counting); err != nil || len(d.Settings) != 0 {
		t.Errorf("got %v, %v", d.Settings, err)
	}
}

// An instance that has used a person's key does not use it any more when another instance has destroyed it.
func TestErasureInAnotherInstance(t *testing.T) {
	shared := memory.Opener(memory.Twice())
	share := func(h *functiontest.Harness) { h.Store = shared }
	one, other := functiontest.New(t, members, share), functiontest.New(t, members, share)
	one.MustDeliver(ship("m1"))
	one.MustDeliver(ship("m1"))
	if es := one.Emitted(); len(es) != 2 || event.Extension(es[1], event.PersonalKey) == "" {
		t.Fatalf("before the erasure: got %v", es)
	}
	other.MustDeliver(erased("m1"))
	one.MustDeliver(ship("m1"))
	if es := one.Emitted(); len(es) != 1 || event.Extension(es[0], event.PersonalKey) != "" {
		t.Errorf("after the erasure: got %v", es)
	}
}

// An erasure by another instance costs one attempt of a unit: later ones do not presume the old key again.
func TestErasedKeyIsNotPresumedAgain(t *testing.T) {
	n := &opCount{}
	shared := memory.Opener()
	share := func(h *functiontest.Harness) { h.Store = shared }
	counted := func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := shared(ctx, name, schema)
			return countedOps{db, n}, err
		}
	}
	one, other := functiontest.New(t, members, counted), functiontest.New(t, members, share)
	one.MustDeliver(ship("m1"))
	one.MustDeliver(ship("m1"))
	other.MustDeliver(erased("m1"))
	one.MustDeliver(ship("m1"))
	*n = opCount{}
	one.MustDeliver(ship("m1"))
	if n.commits != 1 {
		t.Errorf("%d commits, want 1", n.commits)
	}
}
