package archive_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// A dry run makes no key for a person either, and refuses what a mend would refuse.
func TestDryRunMakesNoKey(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()),
		functiontest.Set(map[string]string{personal.Variable: personal.NewKey()}))
	deadVisit(h, h.Event(visitorCame.New("ada", visitor{"ada", "Ada"})))
	keys := func() int {
		return len(slices.DeleteFunc(stores(t, h), func(d store.Document) bool { return d.Collection != "person_keys" }))
	}
	before := keys()
	var tried struct{ Selected, Changed, Refused int }
	h.Call("POST", mends+"/dry-run", auth.Principal{Subject: "v", Roles: []string{auth.RoleViewer}},
		object("transform", `{"name": "Ada Lovelace"}`)).Expect(200).JSON(&tried)
	if tried.Selected != 1 || tried.Changed != 1 {
		t.Errorf("got %+v", tried)
	}
	if n := keys(); n != before {
		t.Errorf("the dry run of a viewer has made %d keys", n-before)
	}
}

// A portion of a mend, and a page of a dry run, ends when its evaluations have cost much together: a handler has no
// time for a thousand expressions that each cost nearly as much as one may. The mend goes on, and looks at every letter
// once.
func TestCostlyLettersTakeMorePortions(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	const letters = 24
	broken(h, letters)
	list := "[" + strings.Repeat("1,", 23) + "1]"
	costly := list + ".all(a, " + list + ".all(b, " + list + ".all(c, a + b + c > 0)))"
	for _, where := range []string{"!" + costly, costly + " && 1 / (data.sum - data.sum) > 0"} {
		var tried struct {
			Looked, Refused int
			Next            string
		}
		body, looked, pages := object("where", where), 0, 0
		for ; pages == 0 || tried.Next != ""; pages++ {
			body["cursor"], tried.Next = tried.Next, ""
			h.Call("POST", mends+"/dry-run", functiontest.Admin(), body).Expect(200).JSON(&tried)
			if looked += tried.Looked; tried.Looked > letters*3/4 {
				t.Errorf("%s: a page of the dry run looks at %d letters", where[len(where)-20:], tried.Looked)
			}
		}
		if looked != letters {
			t.Errorf("%s: the dry run has looked at %d letters in %d pages", where[len(where)-20:], looked, pages)
		}
	}
	path, most, before := startMend(h, object("where", "!"+costly)), 0, 0
	for {
		sent := h.Emitted()
		if len(sent) == 0 {
			break
		}
		h.Receive(sent...)
		m := mendOf(h, path)
		most, before = max(most, m.Looked-before), m.Looked
	}
	if m := mendOf(h, path); m.State != "done" || m.Looked != letters || most > letters*3/4 {
		t.Errorf("at most %d in a portion: %+v", most, m)
	}
}
