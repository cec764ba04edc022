package archive_test

import (
	"testing"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

type weighedV1 struct {
	ID    string `json:"id"`
	Grams int    `json:"grams"`
}

type weighed struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

var (
	parcelWeighedV1 = event.Define(product, "scales.weighed", 1, event.Fact, "A parcel was weighed.", weighedV1{"p", 1500})
	parcelWeighed   = event.Define(product, "scales.weighed", 2, event.Fact, "A parcel was weighed.", weighed{"p", "1 kg"})
	_               = event.Upcast(parcelWeighedV1, parcelWeighed, func(old weighedV1) (weighed, error) {
		return weighed{old.ID, "some grams"}, nil
	})
)

// A replay of a type has the older versions that the type reads too, and what was sent in both versions once.
func TestReplayOfOlderVersions(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.MustDeliver(parcelWeighedV1.New("old", weighedV1{"old", 5}), reserved("a"))
	beside := h.Event(parcelWeighedV1.New("both", weighedV1{"both", 7}))
	beside.SetExtension(event.SentAs, parcelWeighed.Name())
	h.Receive(beside, h.Event(parcelWeighed.New("both", weighed{"both", "7 g"})))
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{
		ReplayID: "r", To: "views", Types: []string{parcelWeighed.Name()},
	}))
	replayed, _, done := run(h)
	var got []string
	for _, e := range replayed {
		got = append(got, e.Subject()+" "+e.Type())
	}
	equal(t, "replayed", got, []string{"old " + parcelWeighedV1.Name(), "both " + parcelWeighed.Name()})
	if done.Count != 2 {
		t.Errorf("count is %d, want 2", done.Count)
	}
}
