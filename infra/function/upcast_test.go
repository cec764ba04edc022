package function_test

import (
	"context"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// parcelV1 and parcelText are the data of two versions of an event.
type parcelV1 struct {
	ID    string `json:"id"`
	Grams int    `json:"grams"`
}

type parcelText struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

var (
	parcelWeighedV1 = event.Define(example, "scales.weighed", 1, event.Fact, "A parcel was weighed.", parcelV1{"p", 1500})
	parcelWeighed   = event.Define(example, "scales.weighed", 2, event.Fact, "A parcel was weighed.",
		parcelText{"p", "1500 g"})
	_ = event.Upcast(parcelWeighedV1, parcelWeighed, func(old parcelV1) (parcelText, error) {
		return parcelText{old.ID, "some grams"}, nil
	})
)

// weighing makes a function that consumes the newer version, and counts.
func weighing(env function.Env) (*function.Function, error) {
	f := function.New("office", env)
	parcels := function.Collection[counter](f, "parcels", store.On("n"))
	function.On(f, parcelWeighed, func(ctx context.Context, tx *function.Tx, p parcelText) error {
		c, _, err := parcels.Find(ctx, tx, p.ID)
		if err != nil {
			return err
		}
		return parcels.Put(ctx, tx, p.ID, counter{Name: p.Text, N: c.N + 1})
	})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/counters/{name}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *struct {
			Name string `path:"name"`
		}) (*countOutput, error) {
			c, err := parcels.Get(ctx, tx, in.Name)
			return &countOutput{Body: c}, err
		})
	return f, nil
}

// A function that consumes a newer version gets the older one as well, until senders are deployed and from the archive.
// What is sent in both versions is handled once.
func TestOlderVersionsAreRead(t *testing.T) {
	h := functiontest.New(t, weighing)
	for _, name := range []string{parcelWeighedV1.Name(), parcelWeighed.Name()} {
		if !slices.Contains(h.I.Declaration().Consumes, name) {
			t.Errorf("the manifest lacks %s: %v", name, h.I.Declaration().Consumes)
		}
	}
	h.MustDeliver(parcelWeighedV1.New("old", parcelV1{"old", 5}), parcelWeighed.New("new", parcelText{"new", "6 g"}))
	beside := h.Event(parcelWeighedV1.New("both", parcelV1{"both", 7}))
	beside.SetExtension(event.SentAs, parcelWeighed.Name())
	h.Receive(beside, h.Event(parcelWeighed.New("both", parcelText{"both", "7 g"})))
	for _, name := range []string{"old", "new", "both"} {
		if n := count(t, h, name); n != 1 {
			t.Errorf("%s: handled %d times, want once", name, n)
		}
	}
}

// An event that is sent beside a newer one names that.
func TestSentBeside(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("scales", env)
		function.Emits(f, parcelWeighed, parcelWeighedV1)
		function.On(f, orderShip, func(_ context.Context, tx *function.Tx, _ orderRef) error {
			tx.Emit(parcelWeighed.New("p", parcelText{"p", "5 g"}),
				parcelWeighedV1.New("p", parcelV1{"p", 5}).Beside(parcelWeighed))
			return nil
		})
		return f, nil
	})
	h.MustDeliver(ship("s"))
	es := h.Emitted()
	if len(es) != 2 || es[0].Extensions()[event.SentAs] != nil ||
		es[1].Extensions()[event.SentAs] != parcelWeighed.Name() {
		t.Errorf("got %v", es)
	}
}
