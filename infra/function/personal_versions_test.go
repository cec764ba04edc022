package function_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// guestV1 and guest are two versions of the data of an event. Their personal fields differ.
type guestV1 struct {
	ID   string `json:"id" minLength:"1" person:"id"`
	Name string `json:"name" minLength:"3" personal:"erased"`
}

type guest struct {
	ID    string `json:"id" minLength:"1" person:"id"`
	First string `json:"first" personal:"erased"`
	Last  string `json:"last" personal:"erased"`
}

var (
	guestArrivedV1 = event.Define(example, "hotel.arrived", 1, event.Fact, "A guest arrived.", guestV1{"g", "Ada King"})
	guestArrived   = event.Define(example, "hotel.arrived", 2, event.Fact, "A guest arrived.", guest{"g", "Ada", "King"})
	_              = event.Upcast(guestArrivedV1, guestArrived, func(old guestV1) (guest, error) {
		first, last, _ := strings.Cut(old.Name, " ")
		return guest{old.ID, first, last}, nil
	})
)

// What an older version has encrypted is read before the event is read as the newer version: the fields have the names
// of the version that was sent.
func TestPersonalFieldsOfOlderVersions(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("hotel", env)
		function.Emits(f, guestArrivedV1)
		function.On(f, orderShip, func(_ context.Context, tx *function.Tx, _ orderRef) error {
			tx.Emit(guestArrivedV1.New("g1", guestV1{"g1", "Grace Hopper"}))
			return nil
		})
		return f, nil
	})
	h.MustDeliver(ship("g1"))
	es := h.Emitted()
	var got []guest
	desk := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("desk", env)
		function.On(f, guestArrived, func(_ context.Context, _ *function.Tx, g guest) error {
			got = append(got, g)
			return nil
		})
		return f, nil
	}, functiontest.Once())
	desk.Receive(es...)
	erased := es[0].Clone()
	erased.SetID("after an erasure")
	erased.SetExtension(event.PersonalKey, nil)
	desk.Receive(erased)
	if want := []guest{{"g1", "Grace", "Hopper"}, {"g1", "erased", ""}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
