package codec_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/broker/internal/codec"
	"github.com/ebb-dev/ebb/infra/event"
)

func full() ce.Event {
	e := ce.New()
	e.SetID("0190-ä")
	e.SetSource("/functions/orders")
	e.SetType("dev.ebb.orders.placed.v1")
	e.SetSubject("42")
	e.SetTime(time.Date(2024, 2, 29, 1, 2, 3, 456, time.FixedZone("", 3600)))
	e.SetDataSchema("https://example.com/schema#x")
	e.SetData(ce.ApplicationJSON, map[string]int{"n": 1})
	e.SetExtension("partitionkey", "42")
	e.SetExtension("yes", true)
	e.SetExtension("no", false)
	e.SetExtension("number", -5)
	e.SetExtension("bytes", []byte{0, 255})
	e.SetExtension("uri", types.URI{URL: types.ParseURI("https://example.com").URL})
	e.SetExtension("ref", *types.ParseURIRef("../x"))
	e.SetExtension("when", time.Date(1969, 1, 1, 0, 0, 0, 1, time.UTC))
	return e
}

// normal makes times comparable: two zones of the same offset are not equal to reflect.
func normal(e ce.Event) ce.Event {
	e = e.Clone()
	c := e.Context.(*ce.EventContextV1)
	if c.Time != nil {
		t, _ := time.Parse(time.RFC3339Nano, c.Time.Format(time.RFC3339Nano))
		c.Time = &types.Timestamp{Time: t}
	}
	for k, v := range c.Extensions {
		if ts, ok := v.(types.Timestamp); ok {
			c.Extensions[k] = ts.Format(time.RFC3339Nano)
		}
	}
	if len(c.Extensions) == 0 {
		c.Extensions = nil
	}
	return e
}

func roundTrip(t *testing.T, events ...ce.Event) {
	t.Helper()
	b, err := codec.Append(nil, events)
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(events) {
		t.Fatalf("%d events, want %d", len(got), len(events))
	}
	for i := range events {
		if g, w := normal(got[i]), normal(events[i]); !reflect.DeepEqual(g, w) {
			t.Errorf("got  %#v\nwant %#v\n%s\n%s", g, w, g, w)
		}
	}
}

// Every attribute of every type comes back, and data as it was, be it text, binary, empty or none.
func TestRoundTrip(t *testing.T) {
	bare := ce.New()
	bare.SetID("1")
	bare.SetSource("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66")
	bare.SetType("t")
	binary := bare.Clone()
	binary.SetData("application/octet-stream", []byte{0, 1, 2})
	empty := bare.Clone()
	empty.DataEncoded = []byte{}
	roundTrip(t, full(), bare, binary, empty)
	roundTrip(t)
}

// A number that is not whole is refused, not cut.
func TestFloat(t *testing.T) {
	e := full()
	e.Context.(*ce.EventContextV1).Extensions["number"] = 1.5
	if _, err := codec.Append(nil, []ce.Event{e}); err == nil {
		t.Error("1.5 was written")
	}
}

// What was cut off anywhere is refused, and never read as something else.
func TestCutShort(t *testing.T) {
	b, err := codec.Append(nil, []ce.Event{full(), full()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := codec.Decode(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were read without a fault", n, len(b))
		}
	}
}

// Whatever the SDK reads as a valid event comes back from the codec the same.
func FuzzRoundTrip(f *testing.F) {
	seed, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"x:y","type":"t","data_base64":"AAE=","n":1,"b":true}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"HTTP://Example.com/Foo#","type":"t","dataschema":"A:B?#"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := event.FromJSON(text)
		if err != nil || e.Validate() != nil {
			return
		}
		if _, ok := e.Context.(*ce.EventContextV1); !ok {
			return
		}
		roundTrip(t, e)
	})
}

// Arbitrary bytes never bring the reader down, and what it reads it also writes.
func FuzzDecode(f *testing.F) {
	seed, err := codec.Append(nil, []ce.Event{full()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := codec.Decode(b)
		if err != nil {
			return
		}
		if _, err := codec.Append(nil, events); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := []ce.Event{full()}
	b.Run("codec", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf, _ = codec.Append(buf[:0], e)
		}
	})
	b.Run("sdk", func(b *testing.B) {
		for b.Loop() {
			var buf bytes.Buffer
			ce.WriteJson(&e[0], &buf)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e := full()
	own, _ := codec.Append(nil, []ce.Event{e})
	sdk, _ := json.Marshal(e)
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			codec.Decode(own)
		}
	})
	b.Run("sdk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var out ce.Event
			json.Unmarshal(sdk, &out)
		}
	})
}
