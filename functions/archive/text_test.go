package archive_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// Events are found by a text in a member of their data, in any case, and by a number or a boolean.
func TestSearchByText(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	for subject, data := range map[string]string{
		"a": `{"note": "Call the Harbour first", "lines": [{"product": "p-1", "n": 7}, {"product": "p-2"}]}`,
		"b": `{"harbour": "no", "ready": true, "address": {"town": "Trieste"}, "n": 70}`,
		"c": `"the harbour"`,
	} {
		e := h.Event(reserved(subject))
		e.DataEncoded = []byte(data)
		h.Receive(e)
	}
	for query, want := range map[string]string{
		"text=harbour": "a c", "text=HARBOUR+FIRST": "a", "text=p-2": "a", "field=lines.product&text=p-2": "a",
		"field=product&text=p-2": "", "field=lines&text=p-1": "a", "text=7": "a", "field=n&text=70": "b", "text=true": "b",
		"field=address.town&text=trieste": "b", "field=address&text=trieste": "b", "field=addr&text=trieste": "",
		"text=harbour&subject=c": "c", "text=nothing": "", "text=false": "", "text=order": "",
	} {
		got := pages(h, "?limit=1&"+query)
		if len(got) == 2 && got[0] > got[1] {
			got[0], got[1] = got[1], got[0]
		}
		equal(t, query, got, strings.Fields(want))
	}
	h.Call("GET", "/api/archive/events?field=note", functiontest.Admin(), nil).Expect(422)
}

// Personal fields are not searched: neither the placeholders that stand there, nor what a stranger has written there in
// the clear.
func TestSearchByTextLeavesOutPersonalFields(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	clear := h.Event(visitorCame.New("grace", visitor{"grace", "x"}))
	clear.DataEncoded = []byte(`{"id": "grace", "name": "Grace Hopper", "door": "Grace's"}`)
	h.Receive(h.Event(visitorCame.New("ada", visitor{"ada", "Ada Lovelace"})), clear)
	for query, want := range map[string]string{
		"text=lovelace": "", "text=hopper": "", "field=name&text=hopper": "", "text=erased": "",
		"field=id&text=ada": "ada", "field=door&text=grace": "grace", "field=name&text=e": "",
	} {
		equal(t, query, pages(h, "?"+query), strings.Fields(want))
	}
}

// A search by text reads a part of the log in each call, and goes on where the one before has ended.
func TestSearchByTextIsBounded(t *testing.T) {
	h, log := onBusyLog(t)
	const events = 4500
	numbered(h, events)
	for _, order := range []string{"asc", "desc"} {
		var found []string
		calls := 0
		for cursor := ""; ; calls++ {
			log.reset()
			l := read(h, "?text=a-1234&order="+order+cursor)
			if n := log.had.Load(); n > 2000 {
				t.Errorf("%s: a call has read %d events", order, n)
			}
			if found = append(found, l.subjects()...); l.Next == "" {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(l.Next)
		}
		equal(t, order, found, []string{"a-1234"})
		if calls < 2 {
			t.Errorf("%s: %d events were read in %d calls", order, events, calls+1)
		}
	}
	large := h.Event(reserved("large"))
	large.DataEncoded = fmt.Appendf(nil, `{"order_id": %q}`, strings.Repeat("x", 3<<20)+" needle")
	for i := range 5 {
		large.SetID(fmt.Sprint("large-", i))
		h.Receive(large)
	}
	got, calls := 0, 0
	for cursor := "&order=desc"; cursor != "" && calls < 20; calls++ {
		l := read(h, "?text=NEEDLE"+cursor)
		if got += len(l.Items); len(l.Items) > 3 {
			t.Errorf("a page has %d large events", len(l.Items))
		}
		if cursor = ""; l.Next != "" {
			cursor = "&order=desc&cursor=" + url.QueryEscape(l.Next)
		}
	}
	if got != 5 {
		t.Errorf("%d large events were found, in %d calls", got, calls)
	}
}
