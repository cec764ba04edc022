package event_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// A valid event is decoded with all its data; times are in UTC, unknown fields are ignored.
func TestDecode(t *testing.T) {
	got, err := orderPlaced.Decode(message("com.example.orders.placed.v1",
		strings.Replace(order, `"total"`, `"new":[{"a":null,"b":[1.5e3,true,"\u00e9"]}], "total"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := placedOrder{
		OrderID: "o", CustomerID: "c", Total: money{Amount: 10, Currency: "EUR"},
		Lines:    []orderLine{{ProductID: "p", Quantity: 2, UnitPrice: money{Amount: 5, Currency: "EUR"}}},
		PlacedAt: time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Escapes are decoded as JSON defines them.
func TestDecodeUnescapes(t *testing.T) {
	got, err := orderDeadline.Decode(message("com.example.orders.deadline.v1",
		`{"order\u005fid":"a\"\\\/\n\u00e9\ud83d\ude00é","step":"" }`))
	if want := "a\"\\/\né😀é"; err != nil || got.OrderID != want {
		t.Errorf("got %q, %v; want %q", got.OrderID, err, want)
	}
}

// Raw JSON is kept unchanged, and does not share memory with the message.
func TestDecodeKeepsRawJSON(t *testing.T) {
	e := message("dev.ebb.clock.schedule.v1", `{"timer_id":"t","due":"2025-01-02T03:04:05Z","event": {"a": [1, "x"]} }`)
	got, err := event.ClockSchedule.Decode(e)
	copy(e.DataEncoded, strings.Repeat("#", len(e.DataEncoded)))
	if want := `{"a": [1, "x"]}`; err != nil || string(got.Event) != want || got.TimerID != "t" {
		t.Errorf("got %s, %v; want %s", got.Event, err, want)
	}
}

// Each violation is named with its place.
func TestDecodeNamesThePlace(t *testing.T) {
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
		"no lines": {
			strings.Replace(order, order[strings.Index(order, `[`):strings.Index(order, `]`)], `[`, 1),
			`$.lines must have at least 1 items`,
		},
		"empty text": {change(`"o"`, `""`), `$.order_id must have at least 1 characters`},
		"long text": {
			change(`"o"`, `"`+strings.Repeat("é", 129)+`"`),
			`$.order_id must have at most 128 characters, has 129`,
		},
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
			got, err := orderPlaced.Decode(message("com.example.orders.placed.v1", tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			var v *event.Violation
			if !errors.As(err, &v) || !strings.HasPrefix(v.Path, "$") {
				t.Errorf("got %#v, want a violation", err)
			}
			if !reflect.DeepEqual(got, placedOrder{}) {
				t.Errorf("got half an order: %+v", got)
			}
		})
	}
}

// Violations of formats and kinds that an order does not have.
func TestOtherViolations(t *testing.T) {
	tests := []struct{ typ, data, want string }{
		{"com.example.users.registered", `{"user_id":"u","name":"n","email":"nobody"}`, `$.email must be of format email`},
		{
			"com.example.users.registered",
			`{"user_id":"u","name":"n","email":"a@b","roles":[1]}`,
			`$.roles[0] must be a string`,
		},
		{"com.example.flags.changed", `{"flag":"f","enabled":1}`, `$.enabled must be a boolean, is a number`},
		{"com.example.flags.changed", `{"flag":"f","enabled":true,"value":}`, `$.value is not JSON`},
		{
			"dev.ebb.clock.schedule",
			`{"timer_id":"t","due":"2025-01-02T03:04:05Z","event":"x"}`,
			`$.event must be an object, is a string`,
		},
	}
	for _, tt := range tests {
		info, ok := catalogue.Lookup(tt.typ + ".v1")
		if !ok {
			t.Fatalf("there is no type %s", tt.typ)
		}
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
		"type":    {func(e *ce.Event) { e.SetType("com.example.orders.placed.v2") }, "event is of type"},
		"content": {func(e *ce.Event) { e.SetDataContentType("text/xml") }, `data is "text/xml"`},
		"spec":    {func(e *ce.Event) { *e = ce.Event{} }, "CloudEvents version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := message("com.example.orders.placed.v1", order)
			tt.change(&e)
			if _, err := orderPlaced.Decode(e); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	for _, content := range []string{"", "application/json; charset=utf-8", "application/vnd.x+json"} {
		e := message("com.example.orders.placed.v1", order)
		e.SetDataContentType(content)
		if _, err := orderPlaced.Decode(e); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// A schema read back from its own JSON gives the same results as the one in memory.
func TestParsedSchemaChecksTheSame(t *testing.T) {
	parsed, err := event.ParseSchema([]byte(orderPlaced.Info().Schema.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{
		order, `{}`, strings.Replace(order, `:2`, `:0`, 1), strings.Replace(order, `EUR`, `E`, 1),
	} {
		got, want := parsed.Validate([]byte(data)), orderPlaced.Info().Schema.Validate([]byte(data))
		if (got == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", data, got, want)
		}
	}
}

// Decoding does not panic at any data, accepts nothing that encoding/json refuses, and what it accepts can be emitted
// again.
func FuzzDecode(f *testing.F) {
	for _, info := range catalogue {
		for _, x := range info.Examples {
			raw, _ := json.Marshal(x.Data)
			f.Add(info.Name, raw)
		}
	}
	f.Add("com.example.orders.placed.v1", []byte(order))
	f.Add("com.example.flags.changed.v1", []byte(`{"flag":"\ud83d\ude00","enabled":false,"value":[-0.5e+3,null]}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		info, ok := catalogue.Lookup(name)
		if !ok {
			info = orderPlaced.Info()
		}
		placed, err := orderPlaced.Decode(message("com.example.orders.placed.v1", string(data)))
		if checked := orderPlaced.Info().Check(data); (err == nil) != (checked == nil) {
			t.Fatalf("decoding returns %v, checking %v", err, checked)
		}
		if err == nil {
			if _, err := orderPlaced.New("o", placed).Encode(); err != nil {
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
		"placed": decoder(b, orderPlaced), "reserve": decoder(b, stockReserve), "authorize": decoder(b, paymentAuthorize),
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
