package timemachine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rerun"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/timemachine"
)

var ns = event.NewNamespace("com.example.market", "https://example.com/schemas/")

type item struct {
	ItemID string `json:"item_id" minLength:"1"`
	Price  int    `json:"price"`
}

type sale struct {
	SaleID string    `json:"sale_id" minLength:"1"`
	ItemID string    `json:"item_id" minLength:"1"`
	Count  int       `json:"count"`
	Total  int       `json:"total"`
	At     time.Time `json:"at"`
}

type parcel struct {
	ParcelID string `json:"parcel_id" minLength:"1"`
	SaleID   string `json:"sale_id" minLength:"1"`
	Note     string `json:"note"`
}

type closing struct {
	SaleID string `json:"sale_id" minLength:"1"`
}

var (
	exTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	priced = event.Define(ns, "items.priced", 1, event.Fact, "An item has a price.", item{"i", 5})
	sold   = event.Define(ns, "sales.made", 1, event.Fact, "A sale was made.", sale{"s", "i", 1, 5, exTime})
	closed = event.Define(ns, "sales.closed", 1, event.Fact, "A sale is closed.", closing{"s"})
	packed = event.Define(ns, "parcels.packed", 1, event.Fact, "A parcel was packed.", parcel{"p", "s", ""})
)

// market declares the functions of a small product, whose price rule may change.
type market struct {
	price   func(price, count int) int // nil: what they cost
	pack    func(s sale) string        // the note of a parcel; nil: none
	silent  bool                       // parcels emits nothing
	useless bool                       // no recipe makes a request
}

type saleInput struct {
	Body struct {
		ItemID string `json:"item_id"`
		Count  int    `json:"count"`
	}
}

type saleOutput struct{ Body sale }

func (m market) sales(env function.Env) (*function.Function, error) {
	f := function.New("sales", env)
	items := function.Collection[item](f, "items")
	sales := function.Collection[sale](f, "sales")
	function.On(f, priced, func(ctx context.Context, tx *function.Tx, i item) error {
		return items.Put(ctx, tx, i.ItemID, i)
	})
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/sales", Summary: "Sell", Access: function.Only(auth.RoleCustomer), Status: 201,
	}, func(ctx context.Context, tx *function.Tx, in *saleInput) (*saleOutput, error) {
		i, err := items.Get(ctx, tx, in.Body.ItemID)
		if err != nil {
			return nil, err
		}
		s := sale{SaleID: tx.NewID(), ItemID: i.ItemID, Count: in.Body.Count, Total: i.Price * in.Body.Count, At: tx.Now()}
		if m.price != nil {
			s.Total = m.price(i.Price, s.Count)
		}
		tx.Emit(sold.New(s.SaleID, s))
		return &saleOutput{s}, sales.Put(ctx, tx, s.SaleID, s)
	})
	function.Emits(f, sold)
	return f, nil
}

func (m market) parcels(env function.Env) (*function.Function, error) {
	f := function.New("parcels", env)
	done := function.Collection[closing](f, "closed")
	function.On(f, closed, func(ctx context.Context, tx *function.Tx, c closing) error {
		return done.Put(ctx, tx, c.SaleID, c)
	})
	function.On(f, sold, func(ctx context.Context, tx *function.Tx, s sale) error {
		note := ""
		if _, known, err := done.Find(ctx, tx, s.SaleID); err != nil || known {
			note = "it was closed before"
		}
		if m.pack != nil {
			note = m.pack(s)
		}
		if id := tx.NewID(); !m.silent {
			tx.Emit(packed.New(id, parcel{id, s.SaleID, note}))
		}
		return nil
	})
	function.Emits(f, packed)
	return f, nil
}

func (m market) system() system.System {
	recipe := &rerun.Recipe{Request: func(emitted []ce.Event, past rerun.Past) (rerun.Request, bool) {
		s, err := sold.Decode(emitted[0])
		if err != nil || m.useless || len(past.About(s.SaleID)) == 0 {
			return rerun.Request{}, false
		}
		return rerun.Request{
			Method: "POST", Path: "/api/sales", Subject: "ada", Roles: []string{auth.RoleCustomer},
			Body: map[string]any{"item_id": s.ItemID, "count": s.Count},
		}, true
	}}
	return system.System{Name: "market", Functions: []system.Definition{
		{Name: "sales", New: m.sales, Rerun: recipe}, {Name: "parcels", New: m.parcels},
	}}
}

var ids = 0

// recorded returns an event as a function has emitted it.
func recorded(at time.Duration, function string, d event.Draft, correlation, cause string) ce.Event {
	ids++
	e := ce.New()
	e.SetID(uuid.NewSHA1(uuid.NameSpaceOID, []byte(fmt.Sprint(ids))).String())
	e.SetSource("/functions/" + function)
	e.SetType(d.Info.Name)
	e.SetSubject(d.Subject)
	e.SetTime(exTime.Add(at))
	e.SetExtension(event.PartitionKey, d.Key)
	e.SetExtension(event.CorrelationID, correlation)
	if cause != "" {
		e.SetExtension(event.CausationID, cause)
	}
	data, err := d.Encode()
	if err != nil {
		panic(err)
	}
	_ = e.SetData(ce.ApplicationJSON, data)
	return e
}

func idOf(text string) string { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(text)).String() }

// past returns n sales of an item that costs 5, each of two, with their parcels.
func past(n int) (all []ce.Event) {
	book := idOf("book")
	all = append(all, recorded(-time.Hour, "items", priced.New(book, item{book, 5}), "before", ""))
	for i := range n {
		id, parcelID, at := idOf(fmt.Sprint("sale", i)), idOf(fmt.Sprint("parcel", i)), time.Duration(i)*time.Second
		correlation := idOf(fmt.Sprint("request", i))
		made := recorded(at, "sales", sold.New(id, sale{id, book, 2, 10, exTime.Add(at)}), correlation, "")
		all = append(all, made, recorded(at+30*time.Millisecond, "parcels",
			packed.New(parcelID, parcel{parcelID, id, ""}), correlation, made.ID()))
	}
	return all
}

func run(t *testing.T, m market, events []ce.Event, s timemachine.Selection) *timemachine.Report {
	t.Helper()
	rec, err := timemachine.Select(events, s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := timemachine.Run(t.Context(), m.system(), rec, timemachine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantChanges checks which events and members differ.
func wantChanges(t *testing.T, r *timemachine.Report, want ...string) {
	t.Helper()
	var got []string
	for _, e := range r.Events {
		if e.Change == timemachine.Same {
			continue
		}
		line := string(e.Change) + " " + strings.TrimPrefix(e.Type, "com.example.market.")
		for _, f := range e.Fields {
			line += fmt.Sprintf(" %s: %s → %s", f.Path, f.Recorded, f.Now)
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) || r.Same != (len(want) == 0) {
		t.Errorf("same is %v, got %q, want %q; problems %q, notes %q", r.Same, got, want, r.Problems, r.Notes)
	}
}

// A sale is the same with the same code, and differs where the code does.
func TestRun(t *testing.T) {
	first := timemachine.Selection{About: idOf("sale0")}
	gift := func(sale) string { return "a gift" }
	rebate := func(price, count int) int { return price*count - 1 }
	for name, test := range map[string]struct {
		m    market
		want []string
	}{
		"the same":       {market{}, nil},
		"a price rule":   {market{price: rebate}, []string{"different sales.made.v1 total: 10 → 9"}},
		"a note":         {market{pack: gift}, []string{"different parcels.packed.v1 note:  → a gift"}},
		"nothing packed": {market{silent: true}, []string{"missing parcels.packed.v1"}},
		"no recipe":      {market{useless: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, test.m, past(3), first)
			wantChanges(t, r, test.want...)
			if r.Recorded != 2 || r.Others != 1 || len(r.Inputs) != 1 || r.Inputs[0].Given != test.m.useless {
				t.Errorf("got %d events, %d before, inputs %+v", r.Recorded, r.Others, r.Inputs)
			}
			if told := strings.Contains(strings.Join(r.Notes, "\n"), "no request is known"); told != test.m.useless {
				t.Errorf("notes %q", r.Notes)
			}
		})
	}
}

// A delivery comes when it had come: after the sale was closed, or before.
func TestRunInTheOrderOfThePast(t *testing.T) {
	for after, note := range map[time.Duration]string{
		10 * time.Second: "it was closed before", 10 * time.Millisecond: "",
	} {
		events, id := past(1), idOf("sale0")
		events[2] = recorded(after, "parcels", packed.New(idOf("parcel0"), parcel{idOf("parcel0"), id, note}),
			idOf("request0"), events[1].ID())
		events = append(events,
			recorded(5*time.Second, "till", closed.New(id, closing{id}).Keyed("till"), idOf("closing"), ""))
		r := run(t, market{}, events, timemachine.Selection{About: id})
		wantChanges(t, r)
		if len(r.Inputs) != 2 {
			t.Errorf("got the inputs %+v", r.Inputs)
		}
	}
}

// A function that is gone, or refuses the request, is told.
func TestRunOfAnother(t *testing.T) {
	s := timemachine.Selection{About: idOf("sale0")}
	r := run(t, market{}, past(1)[1:], s) // the item's price was not recorded
	wantChanges(t, r, "missing sales.made.v1", "missing parcels.packed.v1")
	if !strings.Contains(strings.Join(r.Problems, " "), "POST /api/sales was answered 404") {
		t.Errorf("problems %q", r.Problems)
	}
	rec, err := timemachine.Select(past(1), s)
	if err != nil {
		t.Fatal(err)
	}
	sys := market{}.system()
	sys.Functions = sys.Functions[1:]
	if r, err = timemachine.Run(t.Context(), sys, rec, timemachine.Options{}); err != nil {
		t.Fatal(err)
	}
	wantChanges(t, r)
	if !strings.Contains(strings.Join(r.Notes, " "), "this build has no such function") {
		t.Errorf("notes %q", r.Notes)
	}
}

// A span of time has the correlations that began in it, up to 10,000 events.
func TestSpan(t *testing.T) {
	events := past(5000)
	r := run(t, market{}, events, timemachine.Selection{Since: exTime})
	wantChanges(t, r)
	if r.Recorded != timemachine.MaxEvents {
		t.Errorf("got %d events", r.Recorded)
	}
	events = append(events, past(1)[1])
	if _, err := timemachine.Select(events, timemachine.Selection{Since: exTime}); err == nil ||
		!strings.Contains(err.Error(), "more than the 10000") {
		t.Errorf("got %v", err)
	}
	some := timemachine.Selection{Since: exTime.Add(10 * time.Second), Until: exTime.Add(20 * time.Second)}
	r = run(t, market{price: func(int, int) int { return 0 }}, events[:101], some)
	if r.Recorded != 20 || r.Count(timemachine.Different) != 10 || r.Count(timemachine.Same) != 10 {
		t.Errorf("got %+v", r)
	}
}

// A file has all of the recording, which is the same when it is read again.
func TestFile(t *testing.T) {
	s := timemachine.Selection{About: idOf("sale1")}
	rec, err := timemachine.Select(past(3), s)
	if err != nil {
		t.Fatal(err)
	}
	var file, again bytes.Buffer
	if err := rec.Write(&file); err != nil {
		t.Fatal(err)
	}
	text := file.String()
	events, err := timemachine.Parse(&file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := timemachine.Select(events, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Write(&again); err != nil || again.String() != text || len(read.Others) != 1 || len(read.Events) != 2 {
		t.Errorf("%v, %s\nwant\n%s", err, &again, text)
	}
	for _, bad := range []string{"[", "\xff", `{"specversion":"1.0"}`, `[{"id":1}]`, `[null]`, "7", `{"a":`, "[[]]"} {
		if _, err := timemachine.Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	_, err = timemachine.Select(events, timemachine.Selection{About: "nothing"})
	if !errors.Is(err, timemachine.ErrNone) {
		t.Errorf("got %v", err)
	}
}

// shelf is an archive with pages of one event.
type shelf []ce.Event

func (s shelf) Events(_ context.Context, q timemachine.Query) (page []ce.Event, next string, err error) {
	var found []ce.Event
	for _, e := range s {
		if (q.Subject == "" || e.Subject() == q.Subject) && (q.Type == "" || e.Type() == q.Type) &&
			(q.Correlation == "" || event.Extension(e, event.CorrelationID) == q.Correlation) &&
			(q.Since.IsZero() || !e.Time().Before(q.Since)) && (q.Until.IsZero() || e.Time().Before(q.Until)) {
			found = append(found, e)
		}
	}
	if q.Newest {
		slices.Reverse(found)
	}
	n := len(q.Cursor)
	if n >= len(found) {
		return nil, "", nil
	}
	if n+1 < len(found) {
		next = q.Cursor + "x"
	}
	return found[n : n+1], next, nil
}

// A recording is read from an archive page by page: of an entity, of a correlation, and of a span of time without what
// began before it.
func TestRead(t *testing.T) {
	archive := shelf(past(3))
	cut := archive[2:] // the first sale is not there any more, and so is the price of the item
	for name, test := range map[string]struct {
		archive        shelf
		s              timemachine.Selection
		events, before int
		notes          int
	}{
		"a sale":                {archive, timemachine.Selection{About: idOf("sale1")}, 2, 1, 0},
		"a parcel":              {archive, timemachine.Selection{About: idOf("parcel1")}, 2, 1, 0},
		"a correlation":         {archive, timemachine.Selection{About: idOf("request1")}, 2, 1, 0},
		"a span":                {archive, timemachine.Selection{Since: exTime, Until: exTime.Add(2 * time.Second)}, 4, 1, 0},
		"what began before it":  {cut, timemachine.Selection{Since: exTime}, 4, 0, 1},
		"a span with its price": {archive, timemachine.Selection{Until: exTime.Add(time.Hour)}, 7, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := timemachine.Read(t.Context(), test.archive, test.s, market{}.system())
			if err != nil {
				t.Fatal(err)
			}
			if len(rec.Events) != test.events || len(rec.Others) != test.before || len(rec.Notes) != test.notes {
				t.Errorf("got %d events, %d before, notes %q", len(rec.Events), len(rec.Others), rec.Notes)
			}
		})
	}
	_, err := timemachine.Read(t.Context(), archive, timemachine.Selection{About: "nothing"}, market{}.system())
	if !errors.Is(err, timemachine.ErrNone) {
		t.Errorf("got %v", err)
	}
}
