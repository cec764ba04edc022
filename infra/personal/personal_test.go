package personal_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/personal"
)

type contact struct {
	Email string `json:"email" personal:"erased@erased.invalid"`
}

type registered struct {
	ID      string  `json:"id" person:"id"`
	Name    string  `json:"name" personal:"erased"`
	Plan    string  `json:"plan"`
	Contact contact `json:"contact"`
	Second  *contact
}

// nested is a person who has others.
type nested struct {
	ID   string `json:"id" person:"id"`
	Name string `json:"name" personal:"erased"`
	Next *nested
}

func keys(t *testing.T, text string) personal.Keys {
	t.Helper()
	k, err := personal.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Personal fields are taken out of a copy and put back; all else stays, and what was given does not change.
func TestFields(t *testing.T) {
	f := personal.FieldsOf(reflect.TypeFor[registered]())
	ada := registered{ID: "1", Name: "Ada", Plan: "gold", Contact: contact{"ada@example.com"}, Second: &contact{"a@b.c"}}
	redacted, person, values := personal.Take(f, ada)
	if want := (registered{ID: "1", Name: "erased", Plan: "gold", Contact: contact{"erased@erased.invalid"},
		Second: &contact{"erased@erased.invalid"}}); !reflect.DeepEqual(redacted, want) || person != "1" {
		t.Errorf("got %+v of %s", redacted, person)
	}
	want := map[string]string{"name": "Ada", "contact.email": "ada@example.com", ".email": "a@b.c"}
	if !maps.Equal(values, want) {
		t.Errorf("got %v", values)
	}
	if ada.Name != "Ada" || ada.Second.Email != "a@b.c" {
		t.Errorf("the original has changed: %+v", ada)
	}
	f.Put(&redacted, values)
	if !reflect.DeepEqual(redacted, ada) {
		t.Errorf("put back: got %+v", redacted)
	}
	if _, _, values := personal.Take(f, registered{ID: "1"}); values != nil {
		t.Errorf("without values: got %v", values)
	}
	var whatever any = ada
	if redacted, _, _ := personal.Take(f, whatever); redacted.(registered).Name != "erased" || ada.Name != "Ada" {
		t.Errorf("in an interface: got %+v", redacted)
	}
	if personal.FieldsOf(reflect.TypeFor[struct{ Name string }]()) != nil {
		t.Error("a type without personal fields has some")
	}
	for name, typ := range map[string]reflect.Type{
		"nobody's":  reflect.TypeFor[contact](),
		"in a list": reflect.TypeFor[struct{ All []registered }](),
		"in a map":  reflect.TypeFor[struct{ All map[string]*registered }](),
		"in lists": reflect.TypeFor[struct {
			All [][]struct{ Of [2]registered }
		}](),
		"within itself": reflect.TypeFor[nested](),
		"of a number": reflect.TypeFor[struct {
			N int `personal:"0"`
		}](),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was taken", name)
				}
			}()
			personal.FieldsOf(typ)
		}()
	}
}

// What is sealed is read with the same key for the same purpose, and by nobody else. Keys of before unwrap.
func TestSeal(t *testing.T) {
	before := personal.NewKey()
	old := keys(t, before)
	key, wrapped, err := old.New()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"name": "Ada King"}
	sealed, err := key.Seal(values, "event 1")
	if err != nil || strings.Contains(sealed, "Ada King") {
		t.Fatalf("got %s, %v", sealed, err)
	}
	rotated := keys(t, personal.NewKey()+", "+before)
	again, err := rotated.Unwrap(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(sealed, "event 1"); err != nil || !maps.Equal(got, values) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := again.Open(sealed, "event 2"); !fault.Is(err, fault.Invalid) {
		t.Errorf("for another purpose: got %v", err)
	}
	if _, err := keys(t, personal.NewKey()).Unwrap(wrapped); !fault.Is(err, fault.Unavailable) {
		t.Errorf("with other keys: got %v", err)
	}
	if _, _, err := (personal.Keys{}).New(); err == nil {
		t.Error("without keys something is encrypted")
	}
	if strings.Contains(key.String(), string(key)) {
		t.Error("a key tells itself")
	}
}

// Settings that are no keys are refused, and not told.
func TestParseKeys(t *testing.T) {
	for _, text := range []string{"", "secret", personal.NewKey() + ",", personal.NewKey()[:20]} {
		if _, err := personal.ParseKeys(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
