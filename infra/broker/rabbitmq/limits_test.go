package rabbitmq_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
	"github.com/ebb-dev/ebb/infra/fault"
)

// An event whose attributes AMQP has no room for is refused as invalid, since trying again would not help, and disturbs
// no other.
func TestAttributesTooLarge(t *testing.T) {
	b := open(t, rabbitmq.Config{Name: name()})
	must(t, b.Publish(t.Context(), brokertest.Event("1", "k")))
	for what, change := range map[string][2]string{
		"subject": {"subject", strings.Repeat("x", 200<<10)},
		"type":    {"datacontenttype", "text/plain;x=" + strings.Repeat("x", 300)},
		"name":    {strings.Repeat("x", 250), "y"},
	} {
		e := brokertest.Event("large", "k")
		switch change[0] {
		case "subject":
			e.SetSubject(change[1])
		case "datacontenttype":
			e.SetDataContentType(change[1])
		default:
			e.SetExtension(change[0], change[1])
		}
		err := b.Publish(t.Context(), e)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got kind %v, %.300v, want invalid", what, fault.KindOf(err), err)
		}
	}
	seen := make(chan string, 2)
	subscribe(t, b, broker.Trigger{Name: "audit"}, handler(seen))
	most := brokertest.Event("2", "k")
	most.SetSubject(strings.Repeat("x", 119<<10))
	must(t, b.Publish(t.Context(), most))
	expect(t, seen, "2")
}
