package console

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// The map has what goes on: how many of the newest events a function has emitted, how late they were, and how many dead
// letters it has. It asks for no more than it needs, and is drawn also when the archive does not answer.
func TestLoadOfTheMap(t *testing.T) {
	x := newTested(t)
	add := func(name, consumes, emits string) {
		x.system.Functions = append(x.system.Functions, &manifest.Declaration{Function: manifest.Function{
			Name: name, Consumes: strings.Fields(consumes), Emits: strings.Fields(emits),
		}})
	}
	add("orders", "", "a.orders.placed.v1")
	add("inventory", "a.orders.placed.v1", "")
	one := `{"archived_at":"2026-01-02T15:04:06Z","event":{"source":"/functions/orders","type":"a.orders.placed.v1",
		"time":"2026-01-02T15:04:05Z"}}`
	strange := `{"archived_at":"2026-01-02T15:04:06Z","event":{"source":"/functions/<b>","type":"a.orders.lost.v1",
		"time":"2026-01-02T15:04:05Z"}}`
	x.answer("GET /api/archive/events", 200, `{"items":[`+one+`,`+one+`,`+strange+`]}`)
	x.answer("GET /api/archive/causes", 200, `{"causes":[{"function":"inventory","ids":["d1","d2","d3"]}]}`)
	w := x.get("/console/map", accessCookie, "viewer")
	body := strings.Join(strings.Fields(w.Body.String()), " ")
	for _, want := range []string{
		">3 dead letters<", ">2 events<", "orders.<wbr>lost from /<wbr>functions/<wbr>&lt;b&gt;",
		"<td>orders</td><td>2</td><td>1s</td>", "inventory: orders.placed, 2 of the events",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("want %q in %s", want, body)
		}
	}
	if w.Code != 200 || len(x.asked) != 2 {
		t.Errorf("got %d after %v", w.Code, x.asked)
	}
	away := newTested(t)
	away.system = x.system
	away.answer("GET /api/archive/", 503, `{}`)
	w = away.get("/console/map", accessCookie, "viewer")
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "The archive does not answer") ||
		!strings.Contains(body, ">inventory<") {
		t.Errorf("without an archive: got %d %s", w.Code, body)
	}
}
