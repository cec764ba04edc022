package delivery_test

import (
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// The identity of an event is that of its doubles only: SNS drops what has the same one within five minutes.
func TestIdentity(t *testing.T) {
	with := func(e ce.Event, extensions ...string) ce.Event {
		e = e.Clone()
		for i := 0; i < len(extensions); i += 2 {
			e.SetExtension(extensions[i], extensions[i+1])
		}
		return e
	}
	e := brokertest.Event("1", "k")
	moved := e.Clone()
	moved.SetSource("/elsewhere")
	different := []ce.Event{
		e, brokertest.Event("2", "k"), moved,
		with(e, "ebbreplayto", "orders", "ebbreplaynumber", "1"), with(e, "ebbreplayto", "orders", "ebbreplaynumber", "2"),
		with(e, "knativeerrordest", "orders"), with(e, "knativeerrordest", "payments"),
		with(e, "a", "b c"), with(e, "a", `b" c`, "d", "e"),
	}
	seen := map[string]int{}
	for i := range different {
		id := delivery.Identity(&different[i])
		if j, ok := seen[id]; ok {
			t.Errorf("%d and %d have one identity", i, j)
		}
		seen[id] = i
		if again := different[i].Clone(); delivery.Identity(&again) != id {
			t.Errorf("%d has two identities", i)
		}
	}
}
