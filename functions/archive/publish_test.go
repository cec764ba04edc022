package archive_test

import (
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// An admin publishes an event, once for one key; what its schema does not allow is refused, as is anyone else.
func TestPublish(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.System = func() manifest.System {
			return manifest.System{Functions: []*manifest.Declaration{{Types: product.Types()}}}
		}
		return archive.New(env)
	})
	shipped := map[string]any{
		"type":    stockReserved.Name(),
		"subject": "o1",
		"data":    map[string]any{"order_id": "o1"},
	}
	var answered ce.Event
	h.Call("POST", "/api/archive/events", functiontest.Admin(), shipped).Expect(202).JSON(&answered)
	got := h.Emitted()
	if len(got) != 1 || got[0].String() != answered.String() {
		t.Fatalf("published %v, answered %v", got, answered)
	}
	if e := got[0]; e.Source() != "/functions/archive" || e.Subject() != "o1" ||
		e.Extensions()[event.PartitionKey] != "o1" ||
		stockReserved.Info().CheckEvent(e) != nil {
		t.Errorf("published %v", e)
	}
	for name, bad := range map[string]map[string]any{
		"unknown event type": {"type": "dev.ebb.nothing.v1", "data": map[string]any{}},
		"order_id":           {"type": stockReserved.Name(), "data": map[string]any{"order_id": ""}},
		"control character":  {"type": stockReserved.Name(), "subject": "a\nb", "data": map[string]any{"order_id": "o1"}},
	} {
		if answer := h.Call("POST", "/api/archive/events", functiontest.Admin(), bad).Expect(422); !strings.Contains(
			string(answer.Body),
			name,
		) {
			t.Errorf("%s: answered %s", name, answer.Body)
		}
	}
	h.Call("POST", "/api/archive/events", functiontest.As("ada"), shipped).Expect(403)
	h.Call("POST", "/api/archive/events", functiontest.Nobody, shipped).Expect(401)
	if got := h.Emitted(); len(got) != 0 {
		t.Errorf("refused, but published %v", got)
	}
}
