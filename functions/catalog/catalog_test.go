package catalog_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/catalog"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

type m = map[string]any

var (
	nobody = functiontest.Nobody
	admin  = functiontest.Admin()
)

func price(amount int64, currency string) m { return m{"amount": amount, "currency": currency} }

func add(h *functiontest.Harness, name string) catalog.Product {
	h.T.Helper()
	var p catalog.Product
	h.Call("POST", "/api/products", admin, m{"name": name, "price": price(1999, "EUR")}).Expect(201).JSON(&p)
	return p
}

// changes returns the data of the events emitted since the last call. Subject and sequence must match the data.
func changes(h *functiontest.Harness) []events.ChangedProduct {
	h.T.Helper()
	var all []events.ChangedProduct
	for _, e := range h.Emitted() {
		data, err := events.ProductChanged.Decode(e)
		if err != nil {
			h.T.Fatal(err)
		}
		if e.Subject() != data.ProductID || e.Extensions()[event.Sequence] != fmt.Sprint(data.Version) {
			h.T.Errorf("event %v does not fit its data", e)
		}
		all = append(all, data)
	}
	return all
}

func TestAdd(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	r := h.Call("POST", "/api/products", admin, m{"name": " Book ", "price": price(1999, "EUR")}).Expect(201)
	var p catalog.Product
	r.JSON(&p)
	if p.Name != "Book" || p.Price != (catalog.Money{Amount: 1999, Currency: "EUR"}) || !p.CreatedAt.Equal(h.Clock.Now()) {
		t.Errorf("got %+v", p)
	}
	if r.Header.Get("Location") != "/api/products/"+p.ID || r.Header.Get("ETag") != `"1"` {
		t.Errorf("got %v", r.Header)
	}
	want := events.ChangedProduct{
		ProductID: p.ID, Name: "Book", Price: events.Money{Amount: 1999, Currency: "EUR"}, Version: 1, Created: true,
	}
	if got := changes(h); !slices.Equal(got, []events.ChangedProduct{want}) {
		t.Errorf("got %+v", got)
	}
	var shown catalog.Product
	h.Call("GET", "/api/products/"+p.ID, nobody, nil).Expect(200).JSON(&shown)
	if shown != p {
		t.Errorf("got %+v, want %+v", shown, p)
	}
}

// A client that got no response repeats the request with the same key: one product is added.
func TestAddTwiceWithOneKey(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	body := m{"name": "Book", "price": price(1999, "EUR")}
	first := h.Call("POST", "/api/products", admin, body, "Idempotency-Key", "k").Expect(201)
	second := h.Call("POST", "/api/products", admin, body, "Idempotency-Key", "k").Expect(201)
	if string(first.Body) != string(second.Body) || first.Header.Get("ETag") != second.Header.Get("ETag") {
		t.Errorf("got %s and %s", first.Body, second.Body)
	}
	if got := changes(h); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestRefusedProducts(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	for name, body := range map[string]any{
		"no name":          m{"price": price(1, "EUR")},
		"blank name":       m{"name": "  ", "price": price(1, "EUR")},
		"long name":        m{"name": strings.Repeat("a", 501), "price": price(1, "EUR")},
		"control":          m{"name": "a\nb", "price": price(1, "EUR")},
		"no price":         m{"name": "Book"},
		"no currency":      m{"name": "Book", "price": m{"amount": 1}},
		"unknown currency": m{"name": "Book", "price": price(1, "ABC")},
		"lower case":       m{"name": "Book", "price": price(1, "eur")},
		"negative":         m{"name": "Book", "price": price(-1, "EUR")},
		"too dear":         m{"name": "Book", "price": price(1_000_000_000_001, "EUR")},
		"fraction":         m{"name": "Book", "price": m{"amount": 1.5, "currency": "EUR"}},
		"unknown field":    m{"name": "Book", "price": price(1, "EUR"), "available": 3},
	} {
		if r := h.Call("POST", "/api/products", admin, body); r.Status != 422 {
			t.Errorf("%s: got %d %s", name, r.Status, r.Body)
		}
	}
	for _, amount := range []int64{0, 1_000_000_000_000} {
		h.Call("POST", "/api/products", admin, m{"name": "Book", "price": price(amount, "JPY")}).Expect(201)
	}
	if got := changes(h); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestOnlyAdminsWrite(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	p := add(h, "Book")
	for _, c := range []struct{ method, path string }{
		{"POST", "/api/products"}, {"PATCH", "/api/products/" + p.ID}, {"DELETE", "/api/products/" + p.ID},
	} {
		h.Call(c.method, c.path, nobody, m{}).Expect(401)
		h.Call(c.method, c.path, functiontest.As("ada"), m{}).Expect(403)
	}
}

// An admin who was demoted changes nothing with the token of before, and sees what every customer sees.
func TestDemotedAdmin(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	path, body := "/api/products", m{"name": "Apple", "price": price(150, "EUR")}
	h.Call("POST", path, admin, body).Expect(201)
	h.Emitted()
	h.MustDeliver(event.AccessRevoked.New("admin", event.RevokedAccess{
		Subject: "admin", Roles: []string{auth.RoleAdmin},
		IssuedBefore: h.Clock.Now().Add(time.Second), Until: h.Clock.Now().Add(5 * time.Minute),
	}))
	h.Call("POST", path, admin, body).Expect(403)
	h.Call("GET", path, admin, nil).Expect(200)
	if got := h.Emitted(); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	h.Clock.Advance(2 * time.Second)
	h.Call("POST", path, admin, body).Expect(201) // promoted again, and signed in
}

func TestNotModified(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	path := "/api/products/" + add(h, "Book").ID
	for _, tags := range []string{`"1"`, `W/"1"`, `"0", "1"`, `*`} {
		r := h.Call("GET", path, nobody, nil, "If-None-Match", tags).Expect(http.StatusNotModified)
		if len(r.Body) > 0 || r.Header.Get("ETag") != `"1"` {
			t.Errorf("%s: got %q %v", tags, r.Body, r.Header)
		}
	}
	two := httptest.NewRequest("GET", path, nil)
	two.Header["If-None-Match"] = []string{`"0"`, `W/"1"`}
	w := httptest.NewRecorder()
	if h.I.ServeHTTP(w, two); w.Code != http.StatusNotModified {
		t.Errorf("a list in two lines: got %d", w.Code)
	}
	h.Call("GET", path, nobody, nil, "If-None-Match", `"2"`).Expect(200)
	h.Call("PATCH", path, admin, m{"name": "Books"}, "If-Match", `"1"`).Expect(200)
	r := h.Call("GET", path, nobody, nil, "If-None-Match", `"1"`).Expect(200)
	if r.Header.Get("ETag") != `"2"` {
		t.Errorf("got %v", r.Header)
	}
	h.Call("GET", "/api/products/none", nobody, nil, "If-None-Match", "*").Expect(404)
}

func TestChange(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	p := add(h, "Book")
	path := "/api/products/" + p.ID
	changes(h)
	h.Clock.Advance(time.Hour)

	h.Call("PATCH", path, admin, m{"name": "Books"}).Expect(http.StatusPreconditionRequired)
	h.Call("PATCH", path, admin, m{"name": "Books"}, "If-Match", `"2"`).Expect(http.StatusPreconditionFailed)
	h.Call("PATCH", path, admin, m{"name": "Books"}, "If-Match", `W/"1"`).Expect(http.StatusPreconditionFailed)
	h.Call("PATCH", path, admin, m{"price": price(1, "ABC")}, "If-Match", `"1"`).Expect(422)
	h.Call("PATCH", path, admin, m{"sku": "x"}, "If-Match", `"1"`).Expect(422)
	h.Call("PATCH", "/api/products/none", admin, m{"name": "Books"}, "If-Match", `"1"`).Expect(404)

	r := h.Call("PATCH", path, admin, m{"price": price(2500, "USD")}, "If-Match", `"1"`).Expect(200)
	var got catalog.Product
	r.JSON(&got)
	if got.Name != "Book" || got.Price != (catalog.Money{Amount: 2500, Currency: "USD"}) ||
		got.UpdatedAt.Sub(got.CreatedAt) != time.Hour {
		t.Errorf("got %+v", got)
	}
	if r.Header.Get("ETag") != `"2"` {
		t.Errorf("got %v", r.Header)
	}
	// A request that changes nothing makes no version.
	r = h.Call("PATCH", path, admin, m{"name": "Book"}, "If-Match", `"2"`).Expect(200)
	if r.Header.Get("ETag") != `"2"` {
		t.Errorf("got %v", r.Header)
	}
	price := events.Money{Amount: 2500, Currency: "USD"}
	want := []events.ChangedProduct{{ProductID: p.ID, Name: "Book", Price: price, Version: 2}}
	if got := changes(h); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Of concurrent changes for the same version one is carried out and each other one is refused.
func TestConcurrentChanges(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	path := "/api/products/" + add(h, "Book").ID
	var wg sync.WaitGroup
	got := make([]int, 8)
	for i := range got {
		wg.Go(func() {
			got[i] = h.Call("PATCH", path, admin, m{"name": fmt.Sprint("Book ", i)}, "If-Match", `"1"`).Status
		})
	}
	wg.Wait()
	slices.Sort(got)
	if want := []int{200, 412, 412, 412, 412, 412, 412, 412}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := changes(h); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestRemove(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	p, other := add(h, "Book"), add(h, "Lamp")
	path := "/api/products/" + p.ID
	changes(h)
	h.Call("DELETE", path, admin, nil, "If-Match", `"9"`).Expect(412)
	h.Call("DELETE", path, admin, nil).Expect(204)
	want := []events.ChangedProduct{{
		ProductID: p.ID, Name: "Book", Price: events.Money{Amount: 1999, Currency: "EUR"}, Version: 2, Deleted: true,
	}}
	if got := changes(h); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	h.Call("GET", path, nobody, nil).Expect(404)
	h.Call("PATCH", path, admin, m{"name": "Books"}, "If-Match", "*").Expect(404)
	h.Call("DELETE", path, admin, nil).Expect(404)
	if got := list(h, ""); !slices.Equal(got.ids(), []string{other.ID}) {
		t.Errorf("got %v", got)
	}
}

type page struct {
	Items []catalog.Product
	Next  string
}

func (p page) ids() (ids []string) {
	for _, i := range p.Items {
		ids = append(ids, i.ID)
	}
	return ids
}

func list(h *functiontest.Harness, query string) (p page) {
	h.T.Helper()
	h.Call("GET", "/api/products"+query, nobody, nil).Expect(200).JSON(&p)
	return p
}

func TestPages(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	if r := h.Call("GET", "/api/products", nobody, nil).Expect(200); !strings.Contains(string(r.Body), `"items":[]`) {
		t.Errorf("an empty shop: got %s", r.Body)
	}
	var want, got []string
	for i := range 5 {
		want = append(want, add(h, fmt.Sprint("Book ", i)).ID)
	}
	p := list(h, "?limit=2")
	sizes := []int{len(p.Items)}
	for got = p.ids(); p.Next != "" && len(sizes) < 9; {
		p = list(h, "?limit=2&cursor="+p.Next)
		got, sizes = append(got, p.ids()...), append(sizes, len(p.Items))
	}
	if !slices.Equal(got, want) || !slices.Equal(sizes, []int{2, 2, 1}) {
		t.Errorf("got %v in pages of %v, want %v", got, sizes, want)
	}
	for _, bad := range []string{"?limit=0", "?limit=101", "?limit=x", "?cursor=x", "?cursor=WyJhIiwxLDJd", "?page=2"} {
		h.Call("GET", "/api/products"+bad, nobody, nil).Expect(422)
	}
}

// The API accepts every sample.
func TestSamples(t *testing.T) {
	h := functiontest.New(t, catalog.New)
	for _, s := range catalog.Samples() {
		h.Call("POST", "/api/products", admin, m{"name": s.Name, "price": s.Price}).Expect(201)
		if s.Available < 1 {
			t.Errorf("%s is sold out", s.Name)
		}
	}
}
