package archive_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

type causes struct {
	Count  int
	More   bool
	Causes []struct {
		Function, Type, Code, Reason, Cause string
		IDs                                 []string
		Newest                              []struct {
			ID, Subject string
			Times       int
			Mended      bool
		}
	}
}

// Dead letters are grouped by why they failed, the largest group first. The newest thousand are, however many wait.
func TestCauses(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	ask := func(query string) (got causes) {
		h.Call("GET", "/api/archive/causes"+query, functiontest.Admin(), nil).Expect(200).JSON(&got)
		return got
	}
	if got := ask(""); got.Count != 0 || got.More || got.Causes == nil {
		t.Errorf("of none: got %+v", got)
	}
	fail := func(n int, to, reason string) {
		for i := range n {
			e := dead(h, captured(fmt.Sprint("o-", i)), to)
			e.SetExtension(broker.ErrorData, fmt.Sprintf(reason, i))
			h.Clock.Advance(time.Millisecond)
			h.Receive(e)
		}
	}
	fail(3, "/functions/payments", "order %d is unknown")
	fail(30, "/functions/orders", "line %d is missing")
	got := ask("")
	if got.Count != 33 || got.More || len(got.Causes) != 2 {
		t.Fatalf("got %+v", got)
	}
	c := got.Causes[0]
	if c.Function != "orders" || c.Reason != "line 29 is missing" || c.Cause != "line … is missing" || len(c.IDs) != 30 ||
		len(c.Newest) != 20 || c.Newest[0].Subject != "o-29" || c.Newest[0].ID != c.IDs[0] || c.Newest[0].Times != 1 {
		t.Errorf("got %+v", c)
	}
	if other := ask("?state=replayed"); other.Count != 0 {
		t.Errorf("sent again: got %+v", other)
	}
	fail(1000, "/functions/orders", "line %d is missing")
	if got := ask(""); got.Count != 1000 || !got.More || len(got.Causes) != 1 || len(got.Causes[0].IDs) != 1000 {
		t.Errorf("of many: got %d, more: %v", got.Count, got.More)
	}
}
