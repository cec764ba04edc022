// Package console_test drives the web console of the shop in a browser.
package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/test/shop/inprocess"
)

var shots = flag.String("shots", "", "folder for pictures of the console's pages")

// trip is the state of a saga whose hotel never answers that it is cancelled.
type trip struct{ saga.Instance }

type booking struct {
	ID string `json:"id"`
}

var (
	trips     = event.NewNamespace("com.example.trips", "https://trips.example.com/schemas/")
	book      = event.Define(trips, "hotel.book", 1, event.Command, "Book a room.", booking{"t"})
	booked    = event.Define(trips, "hotel.booked", 1, event.Fact, "A room is booked.", booking{"t"})
	unbook    = event.Define(trips, "hotel.unbook", 1, event.Command, "Give the room back.", booking{"t"})
	unbooked  = event.Define(trips, "hotel.unbooked", 1, event.Fact, "The room is given back.", booking{"t"})
	bookingOf = func(t trip) booking { return booking{t.ID} }
)

// newTrips declares a function with a saga whose step is never answered.
func newTrips(env function.Env) (*function.Function, error) {
	f := function.New("trips", env)
	g, err := saga.New(f, saga.Declaration[trip]{
		Name: "trip", StuckAfter: 1,
		Steps: []saga.Step[trip]{{
			Name: "hotel", Command: saga.Send(book, bookingOf), Done: booked, Undo: saga.Send(unbook, bookingOf),
			Undone: unbooked, Deadline: 200 * time.Millisecond, UndoDeadline: 200 * time.Millisecond,
		}},
	})
	if err != nil {
		return nil, err
	}
	op := function.Operation{Method: http.MethodPost, Path: "/api/trips", Access: function.Public}
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
		_, err := g.Start(ctx, tx, "trip-to-trieste", trip{})
		return nil, err
	})
	return f, nil
}

// publishBroken publishes an event that no consumer of the catalogue can take, with script in its fields.
func publishBroken(t *testing.T, p broker.Publisher) {
	t.Helper()
	e := ce.New()
	e.SetID("01920000-0000-7000-8000-00000000dead")
	e.SetSource("/functions/catalog")
	e.SetType(events.ProductChanged.Name())
	e.SetSubject("<script>alert(1)</script>")
	e.SetTime(time.Now())
	e.SetExtension("partitionkey", "p-1")
	e.SetExtension("correlationid", "c-1")
	data := map[string]any{"product_id": "<img src=x onerror=alert(1)>"}
	if err := e.SetData(event.ContentType, data); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// publishRefused publishes events about products that miss what orders and inventory need.
func publishRefused(t *testing.T, p broker.Publisher, n int) {
	t.Helper()
	for i := range n {
		e := ce.New()
		e.SetID(fmt.Sprintf("01920000-0000-7000-8000-0000000000%02d", i))
		e.SetSource("/functions/catalog")
		e.SetType(events.ProductChanged.Name())
		e.SetSubject(fmt.Sprint("m-", i))
		e.SetTime(time.Now())
		e.SetExtension("partitionkey", fmt.Sprint("m-", i))
		e.SetExtension("correlationid", "mends")
		data := map[string]any{
			"product_id": fmt.Sprint("m-", i), "name": "Chart <b>", "version": 1, "price": map[string]any{"amount": 5 * i},
		}
		if err := e.SetData(event.ContentType, data); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// An administrator signs in and finds an order as a trace, a saga that is stuck, and a dead letter; they mend both,
// switch a flag that changes what another function does, and sign in with a passkey. A customer is refused. Axe finds
// no violation on any page, nor in the contrast of the dark theme, and every page fits a phone.
func TestConsole(t *testing.T) {
	t.Parallel()
	npx, err := exec.LookPath("npx")
	if err != nil {
		t.Skip("this needs Node.js 20 or later: install nodejs")
	}
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("this needs a browser: install chromium")
	}
	with := func(args ...string) *exec.Cmd {
		args = append([]string{
			"--yes", "--package", "playwright-core@1.65.1", "--package", "@axe-core/playwright@4.14.0", "--",
		}, args...)
		return exec.CommandContext(t.Context(), npx, args...)
	}
	if out, err := with("node", "--version").CombinedOutput(); err != nil {
		t.Skipf("npx cannot install the driver of the browser: %v\n%s", err, out)
	}
	running := inprocess.Start(t, system.Definition{Name: "trips", New: newTrips})
	url := "http://" + running.Address
	publishBroken(t, running.Publisher)
	publishRefused(t, running.Publisher, 12)
	answer, err := http.Post(url+"/api/trips", "application/json", bytes.NewReader([]byte("{}")))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		t.Fatalf("the trip: got %s", answer.Status)
	}
	good, err := json.Marshal(events.ChangedProduct{
		ProductID: "p-1", Name: "Sextant", Version: 1, Price: events.Money{Amount: 1, Currency: "EUR"},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := with("node", "testdata/console.mjs")
	run.Env = append(os.Environ(), "SHOP="+url, "ORIGIN="+running.Origin, "ADMIN_EMAIL="+inprocess.AdminEmail,
		"ADMIN_PASSWORD="+inprocess.AdminPassword,
		"CHROMIUM="+browser, "SHOTS="+*shots, "GOOD="+string(good))
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
