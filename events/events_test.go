package events_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/eventtest"
)

const order = `{"order_id":"o","customer_id":"c","lines":[{"product_id":"p","quantity":2,"unit_price":{"amount":5,"currency":"EUR"}}],` +
	`"total":{"amount":10,"currency":"EUR"},"placed_at":"2025-01-02T05:04:05+02:00"}`

var catalogue = event.NewCatalogue(events.Types()...)

func message(typ, data string) ce.Event {
	e := ce.New()
	e.SetID("1")
	e.SetSource("/functions/test")
	e.SetType(typ)
	e.SetDataContentType(event.ContentType)
	e.DataEncoded = []byte(data)
	return e
}

// Today's types read what was emitted earlier, and are recorded themselves.
func TestGolden(t *testing.T) { eventtest.Golden(t, "testdata", events.Types()) }

// Examples come back as they were, and show every field.
func TestExamples(t *testing.T) { eventtest.Examples(t, events.Types()) }

// The catalogue keeps to the naming rules that triggers and dead letters rely on.
func TestCatalogueIsWellNamed(t *testing.T) {
	all := events.Types()
	if len(all) < 25 {
		t.Fatalf("got %d types, want the whole catalogue", len(all))
	}
	for i, info := range all {
		want := "dev.ebb." + info.Function + "." + info.What + ".v1"
		if info.Version == 1 && info.Name != want {
			t.Errorf("got %s, want %s", info.Name, want)
		}
		if i > 0 && all[i-1].Name >= info.Name {
			t.Errorf("%s is out of order", info.Name)
		}
		if found, ok := catalogue.Lookup(info.Name); !ok || found != info {
			t.Errorf("%s cannot be looked up", info.Name)
		}
		if info.Kind != event.Fact && info.Kind != event.Command {
			t.Errorf("%s is of kind %q", info.Name, info.Kind)
		}
	}
	if _, ok := catalogue.Lookup("dev.ebb.orders.placed"); ok {
		t.Error("a name without a version was found")
	}
}

// A draft is about its subject and ordered by it, unless keyed otherwise.
func TestDraft(t *testing.T) {
	d := event.ClockCancel.New("timer", event.CancelTimer{TimerID: "timer"})
	if d.Subject != "timer" || d.Key != "timer" || d.Info != event.ClockCancel.Info() {
		t.Errorf("got %+v", d)
	}
	if got := d.Keyed("order"); got.Key != "order" || got.Subject != "timer" || d.Key != "timer" {
		t.Errorf("got %+v, then %+v", d, got)
	}
}

// A good event gives all its data; times come in UTC, unknown fields do no harm.
func TestDecode(t *testing.T) {
	got, err := events.OrderPlaced.Decode(message("dev.ebb.orders.placed.v1",
		strings.Replace(order, `"total"`, `"new":[{"a":null,"b":[1.5e3,true,"\u00e9"]}], "total"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := events.PlacedOrder{
		OrderID: "o", CustomerID: "c", Total: events.Money{Amount: 10, Currency: "EUR"},
		Lines:    []events.OrderLine{{ProductID: "p", Quantity: 2, UnitPrice: events.Money{Amount: 5, Currency: "EUR"}}},
		PlacedAt: time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Escapes mean what they mean to everybody else.
func TestDecodeUnescapes(t *testing.T) {
	got, err := events.OrderDeadline.Decode(message("dev.ebb.orders.deadline.v1",
		`{"order\u005fid":"a\"\\\/\n\u00e9\ud83d\ude00é","step":"" }`))
	if want := "a\"\\/\né😀é"; err != nil || got.OrderID != want {
		t.Errorf("got %q, %v; want %q", got.OrderID, err, want)
	}
}

// Raw JSON stays as it came, and holds no reference to the message it came in.
func TestDecodeKeepsRawJSON(t *testing.T) {
	e := message("dev.ebb.clock.schedule.v1", `{"timer_id":"t","due":"2025-01-02T03:04:05Z","event": {"a": [1, "x"]} }`)
	got, err := event.ClockSchedule.Decode(e)
	copy(e.DataEncoded, strings.Repeat("#", len(e.DataEncoded)))
	if want := `{"a": [1, "x"]}`; err != nil || string(got.Event) != want || got.TimerID != "t" {
		t.Errorf("got %s, %v; want %s", got.Event, err, want)
	}
}

// Each fault is named with its place.
func TestDecodeNamesTheFault(t *testing.T) {
	change := func(old, text string) string {
		if !strings.Contains(order, old) {
			t.Fatalf("the order has no %s", old)
		}
		return strings.Replace(order, old, text, 1)
	}
	tests := map[string]struct{ data, want string }{
		"nothing":           {``, `$ is missing`},
		"no object":         {`[]`, `$ must be an object, is an array`},
		"null":              {`null`, `$ must be an object, is null`},
		"cut off":           {order[:len(order)-1], `$ a comma is missing`},
		"more after":        {order + `{}`, `$ more after the end`},
		"missing field":     {change(`"order_id":"o",`, ``), `$.order_id is missing`},
		"other case":        {change(`"order_id"`, `"Order_ID"`), `$.order_id is missing`},
		"missing deep":      {change(`"amount":5,`, ``), `$.lines[0].unit_price.amount is missing`},
		"twice":             {change(`"order_id":"o"`, `"order_id":"o","order_id":"x"`), `$.order_id comes twice`},
		"null field":        {change(`"o"`, `null`), `$.order_id must be a string, is null`},
		"number for text":   {change(`"o"`, `1`), `$.order_id must be a string, is a number`},
		"text for number":   {change(`:2,`, `:"2",`), `$.lines[0].quantity must be an integer, is a string`},
		"fraction":          {change(`:2,`, `:2.0,`), `$.lines[0].quantity must be an integer that fits, is 2.0`},
		"leading zero":      {change(`:10,`, `:010,`), `$.total a comma is missing`},
		"too big for int64": {change(`:10,`, `:99999999999999999999,`), `$.total.amount must be an integer that fits`},
		"below":             {change(`:2,`, `:0,`), `$.lines[0].quantity must be at least 1, is 0`},
		"above":             {change(`:2,`, `:1000001,`), `$.lines[0].quantity must be at most 1000000`},
		"negative money":    {change(`:10,`, `:-1,`), `$.total.amount must be at least 0`},
		"too much money":    {change(`:10,`, `:1000000000000001,`), `$.total.amount must be at most 1000000000000000`},
		"currency":          {change(`"EUR"`, `"eur"`), `$.lines[0].unit_price.currency must match`},
		"no lines":          {strings.Replace(order, order[strings.Index(order, `[`):strings.Index(order, `]`)], `[`, 1), `$.lines must have at least 1 items`},
		"empty text":        {change(`"o"`, `""`), `$.order_id must have at least 1 characters`},
		"long text":         {change(`"o"`, `"`+strings.Repeat("é", 129)+`"`), `$.order_id must have at most 128 characters, has 129`},
		"year 10000":        {change(`2025-01-02T05:04:05+02:00`, `9999-12-31T23:00:00-02:00`), `$.placed_at must be a time`},
		"loose time":        {change(`T05:04:05`, `T5:04:05`), `$.placed_at must be a time`},
		"time":              {change(`2025-01-02T`, `2025-01-02 `), `$.placed_at must be a time`},
		"not UTF-8":         {change(`"o"`, "\"\xff\""), `$.order_id is not valid UTF-8`},
		"not UTF-8 escaped": {change(`"o"`, "\"\\n\xff\""), `$.order_id is not valid Unicode`},
		"not UTF-8 unknown": {change(`"order_id"`, "\"x\":\"\xff\",\"order_id\""), `$.x is not valid UTF-8`},
		"half a character":  {change(`"o"`, `"\ud83dx"`), `$.order_id is not valid Unicode`},
		"other half":        {change(`"o"`, `"\ude00"`), `$.order_id is not valid Unicode`},
		"wrong escape":      {change(`"o"`, `"\x"`), `$.order_id holds a wrong escape`},
		"control character": {change(`"o"`, "\"\n\""), `$.order_id holds a bare control character`},
		"open text":         {`{"order_id":"o`, `$.order_id ends within a string`},
		"open escape":       {`{"order_id":"o\`, `$.order_id ends within a string`},
		"no JSON":           {change(`"order_id"`, `"x":tru,"order_id"`), `$.x is not JSON`},
		"comma at the end":  {change(`"currency":"EUR"}}`, `"currency":"EUR",}}`), `a name is missing`},
		"deep":              {`{"x":` + strings.Repeat("[", 100_000), `is nested too deep`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := events.OrderPlaced.Decode(message("dev.ebb.orders.placed.v1", tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			var v *event.Violation
			if !errors.As(err, &v) || !strings.HasPrefix(v.Path, "$") {
				t.Errorf("got %#v, want a violation", err)
			}
			if !reflect.DeepEqual(got, events.PlacedOrder{}) {
				t.Errorf("got half an order: %+v", got)
			}
		})
	}
}

// Formats and kinds that an order has none of.
func TestOtherFaults(t *testing.T) {
	tests := []struct{ typ, data, want string }{
		{"users.registered", `{"user_id":"u","name":"n","email":"nobody"}`, `$.email must be of format email`},
		{"users.registered", `{"user_id":"u","name":"n","email":"a@b","roles":[1]}`, `$.roles[0] must be a string`},
		{"flags.changed", `{"flag":"f","enabled":1}`, `$.enabled must be a boolean, is a number`},
		{"flags.changed", `{"flag":"f","enabled":true,"value":}`, `$.value is not JSON`},
		{"clock.schedule", `{"timer_id":"t","due":"2025-01-02T03:04:05Z","event":"x"}`, `$.event must be an object, is a string`},
	}
	for _, tt := range tests {
		info, _ := event.NewCatalogue(append(events.Types(), event.KitTypes()...)...).Lookup("dev.ebb." + tt.typ + ".v1")
		if err := info.Check([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.data, err, tt.want)
		}
	}
}

// An event of another type, version or content is refused before its data is read.
func TestDecodeRefusesOtherEvents(t *testing.T) {
	tests := map[string]struct {
		change func(*ce.Event)
		want   string
	}{
		"type":    {func(e *ce.Event) { e.SetType("dev.ebb.orders.placed.v2") }, "event is of type"},
		"content": {func(e *ce.Event) { e.SetDataContentType("text/xml") }, `data is "text/xml"`},
		"spec":    {func(e *ce.Event) { *e = ce.Event{} }, "CloudEvents version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := message("dev.ebb.orders.placed.v1", order)
			tt.change(&e)
			if _, err := events.OrderPlaced.Decode(e); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	for _, content := range []string{"", "application/json; charset=utf-8", "application/vnd.x+json"} {
		e := message("dev.ebb.orders.placed.v1", order)
		e.SetDataContentType(content)
		if _, err := events.OrderPlaced.Decode(e); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// What no reader would take is not emitted.
func TestEncodeRefuses(t *testing.T) {
	tests := map[string]struct {
		draft event.Draft
		want  string
	}{
		"missing":    {events.InventoryReserve.New("o", events.ReserveStock{OrderID: "o"}), `$.lines must be an array, is null`},
		"empty":      {events.InventoryShip.New("o", events.ShipStock{}), `$.order_id must have at least 1`},
		"not UTF-8":  {events.InventoryShip.New("o", events.ShipStock{OrderID: "\xff"}), `$.order_id is not valid UTF-8`},
		"deep UTF-8": {events.UserRegistered.New("u", events.RegisteredUser{Roles: []string{"\xff"}}), `$.roles[0] is not valid UTF-8`},
		"raw UTF-8":  {events.FlagChanged.New("f", events.ChangedFlag{Flag: "f", Value: json.RawMessage("\"\xff\"")}), `$.value is not valid UTF-8`},
		"wrong data": {event.Draft{Info: events.InventoryShip.Info(), Data: events.ShippedStock{OrderID: "o"}}, `data is a events.ShippedStock`},
		"no data":    {event.Draft{Info: events.InventoryShip.Info()}, `data is a <nil>`},
		"no type":    {event.Draft{}, `draft without a type`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if raw, err := tt.draft.Encode(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, %v; want %s", raw, err, tt.want)
			}
		})
	}
}

// A schema read back from its own JSON says the same as the one in memory.
func TestParsedSchemaChecksTheSame(t *testing.T) {
	parsed, err := event.ParseSchema([]byte(events.OrderPlaced.Info().Schema.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{order, `{}`, strings.Replace(order, `:2`, `:0`, 1), strings.Replace(order, `EUR`, `E`, 1)} {
		got, want := parsed.Validate([]byte(data)), events.OrderPlaced.Info().Schema.Validate([]byte(data))
		if (got == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", data, got, want)
		}
	}
}

// Whatever comes in, decoding does not panic, takes no more than encoding/json
// does, and what it takes can be emitted again.
func FuzzDecode(f *testing.F) {
	for _, info := range events.Types() {
		for _, x := range info.Examples {
			raw, _ := json.Marshal(x.Data)
			f.Add(info.Name, raw)
		}
	}
	f.Add("dev.ebb.orders.placed.v1", []byte(order))
	f.Add("dev.ebb.flags.changed.v1", []byte(`{"flag":"\ud83d\ude00","enabled":false,"value":[-0.5e+3,null]}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		info, ok := catalogue.Lookup(name)
		if !ok {
			info = events.OrderPlaced.Info()
		}
		placed, err := events.OrderPlaced.Decode(message("dev.ebb.orders.placed.v1", string(data)))
		if checked := events.OrderPlaced.Info().Check(data); (err == nil) != (checked == nil) {
			t.Fatalf("decoding says %v, checking %v", err, checked)
		}
		if err == nil {
			if _, err := events.OrderPlaced.New("o", placed).Encode(); err != nil {
				t.Fatalf("cannot be emitted again: %v", err)
			}
		}
		if info.Check(data) != nil {
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("took what is not JSON: %q", data)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for name, run := range map[string]func() error{
		"placed": decoder(b, events.OrderPlaced), "reserve": decoder(b, events.InventoryReserve), "authorize": decoder(b, events.PaymentAuthorize),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func decoder[T any](b *testing.B, typ event.Type[T]) func() error {
	raw, err := event.Draft{Info: typ.Info(), Data: typ.Info().Example()}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	e := message(typ.Name(), string(raw))
	return func() error { _, err := typ.Decode(e); return err }
}

func BenchmarkEncode(b *testing.B) {
	info := events.OrderPlaced.Info()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (event.Draft{Info: info, Data: info.Example()}).Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// An event that is plainly right and one that has to be looked at closely are judged as the SDK does.
func TestValid(t *testing.T) {
	right := func() ce.Event {
		e := ce.New()
		e.SetID("1")
		e.SetSource("/functions/orders")
		e.SetType("dev.ebb.orders.placed.v1")
		e.SetSubject("o")
		e.SetDataSchema("https://ebb.dev/schemas/x")
		return e
	}
	for what, spoil := range map[string]func(*ce.Event){
		"right":                         func(*ce.Event) {},
		"no id":                         func(e *ce.Event) { e.SetID("") },
		"a blank type":                  func(e *ce.Event) { e.SetType(" ") },
		"a subject of a no-break space": func(e *ce.Event) { e.SetSubject("\u00a0") },
		"a subject in another script":   func(e *ce.Event) { e.SetSubject("é") },
		"no source":                     func(e *ce.Event) { e.SetSource("") },
		"an empty subject":              func(e *ce.Event) { e.Context.(*ce.EventContextV1).Subject = new(string) },
		"a relative data schema":        func(e *ce.Event) { e.Context.(*ce.EventContextV1).DataSchema = &types.URI{} },
		"another content type":          func(e *ce.Event) { e.SetDataContentType("text/plain") },
		"version 0.3":                   func(e *ce.Event) { e.Context = e.Context.AsV03() },
	} {
		e := right()
		spoil(&e)
		if got, want := event.Valid(e), e.Validate(); (got == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
}
