package provider_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/flag/provider"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type askInput struct {
	Key     string `path:"key"`
	Country string `query:"country"`
}

type askOutput struct {
	Body struct {
		Boolean bool    `json:"boolean"`
		String  string  `json:"string"`
		Number  float64 `json:"number"`

		Client struct {
			Boolean bool    `json:"boolean"`
			String  string  `json:"string"`
			Float   float64 `json:"float"`
			Int     int64   `json:"int"`
			Object  any     `json:"object"`
			Code    string  `json:"code"`   // of the boolean
			Reason  string  `json:"reason"` // of the boolean
		} `json:"client"`
	}
}

// newFunction declares a function that answers with a flag as its own code and OpenFeature's client have it.
func newFunction(
	t *testing.T, client *openfeature.Client, use func(openfeature.FeatureProvider),
) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("shop", env)
		flags := provider.New(f)
		use(flags.OpenFeature())
		function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/ask/{key}", Access: function.Public},
			func(ctx context.Context, tx *function.Tx, in *askInput) (*askOutput, error) {
				out, by := &askOutput{}, provider.Context{"country": in.Country, "n": 3, "at": time.Unix(0, 0)}
				var err error
				fail := func(e error) {
					if e != nil {
						err = e
					}
				}
				b := &out.Body
				b.Boolean, err = flags.Boolean(ctx, tx, in.Key, true, by)
				fail(err)
				b.String, err = flags.String(ctx, tx, in.Key, "mine", by)
				fail(err)
				b.Number, err = flags.Number(ctx, tx, in.Key, 42, by)
				fail(err)
				ctx, ec := provider.With(ctx, tx), openfeature.NewEvaluationContext("ada", map[string]any(by))
				d, e := client.BooleanValueDetails(ctx, in.Key, true, ec)
				if e == nil && d.ErrorCode != "" {
					t.Errorf("got %+v", d)
				}
				c := &b.Client
				c.Boolean, c.Code, c.Reason = d.Value, string(d.ErrorCode), string(d.Reason)
				c.String = client.String(ctx, in.Key, "mine", ec)
				c.Float = client.Float(ctx, in.Key, 42, ec)
				c.Int = client.Int(ctx, in.Key, 42, ec)
				c.Object = client.Object(ctx, in.Key, nil, ec)
				return out, err
			})
		return f, nil
	}
}

func newHarness(t *testing.T) *functiontest.Harness {
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	return functiontest.New(t, newFunction(t, api.NewClient(), func(p openfeature.FeatureProvider) {
		if err := api.SetProviderAndWait(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}))
}

func changed(version int, definition string) event.Draft {
	return event.FlagsChanged.New("a", event.ChangedFlag{
		Key: "a", Version: version, Definition: json.RawMessage(definition), Removed: definition == "",
	})
}

func definition(variants, rest string) string {
	return `{"state":"ENABLED","variants":{` + variants + `},"defaultVariant":"x"` + rest + `}`
}

func ask(h *functiontest.Harness, query string) string {
	h.T.Helper()
	return strings.TrimSpace(string(h.Call("GET", "/api/ask/a"+query, functiontest.Nobody, nil).Expect(200).Body))
}

// A function evaluates a flag as the newest event told it, whatever order they come in, and otherwise takes its own
// default. OpenFeature's client has the same answers.
func TestProvider(t *testing.T) {
	h := newHarness(t)
	const mine = `{"boolean":true,"string":"mine","number":42,"client":{"boolean":true,"string":"mine","float":42,` +
		`"int":42,"object":null,"code":"FLAG_NOT_FOUND","reason":"ERROR"}}`
	want := func(what, want string, drafts ...event.Draft) {
		t.Helper()
		h.MustDeliver(drafts...)
		h.Restart()
		if got := ask(h, "?country=CH"); got != want {
			t.Errorf("%s: got\n%s, want\n%s", what, got, want)
		}
	}
	want("unknown", mine)
	off := `{"boolean":false,"string":"mine","number":42,"client":{"boolean":false,"string":"mine","float":42,` +
		`"int":42,"object":false,"code":"","reason":"STATIC"}}`
	want("a boolean", off, changed(2, definition(`"x":false`, "")))
	want("an older version", off, changed(1, definition(`"x":true`, "")))
	want("the same again", off, changed(2, definition(`"x":false`, "")))
	want("a number", `{"boolean":true,"string":"mine","number":7,"client":{"boolean":true,"string":"mine","float":7,`+
		`"int":7,"object":7,"code":"TYPE_MISMATCH","reason":"ERROR"}}`, changed(3, definition(`"x":7`, "")))
	want("no whole number", `{"boolean":true,"string":"mine","number":7.5,"client":{"boolean":true,"string":"mine",`+
		`"float":7.5,"int":42,"object":7.5,"code":"TYPE_MISMATCH","reason":"ERROR"}}`, changed(4, definition(`"x":7.5`, "")))
	want("a string", `{"boolean":true,"string":"s","number":42,"client":{"boolean":true,"string":"s","float":42,`+
		`"int":42,"object":"s","code":"TYPE_MISMATCH","reason":"ERROR"}}`, changed(5, definition(`"x":"s"`, "")))
	targeted := `,"targeting":{"if":[{"and":[{"==":[{"var":"country"},"CH"]},{"===":[{"var":"n"},3]},` +
		`{"starts_with":[{"var":"at"},"1970-"]}]},"y"]}`
	want("targeted", strings.Replace(off, "STATIC", "TARGETING_MATCH", 1),
		changed(6, definition(`"x":true,"y":false`, targeted)))
	if got := ask(h, "?country=AT"); !strings.Contains(got, `"boolean":true`) {
		t.Errorf("another country: got %s", got)
	}
	want("off", strings.NewReplacer("FLAG_NOT_FOUND", "", "ERROR", "DISABLED").Replace(mine),
		changed(7, `{"state":"DISABLED","variants":{"x":false},"defaultVariant":"x"}`))
	want("of another version of the kit", strings.NewReplacer("FLAG_NOT_FOUND", "PARSE_ERROR").Replace(mine),
		changed(8, definition(`"x":false`, `,"colour":1`)))
	want("removed", mine, changed(10, ""))
	want("older than the removal", mine, changed(9, definition(`"x":false`, "")))
	want("added again", off, changed(11, definition(`"x":false`, "")))
}

// Replayed events tell of flags too, and a key that no flag has becomes a dead letter.
func TestLearning(t *testing.T) {
	h := newHarness(t)
	e := h.Event(changed(1, definition(`"x":false`, "")))
	e.SetExtension(event.Replay, "r1")
	e.SetExtension(event.ReplayTo, "shop")
	h.Receive(e)
	if got := ask(h, ""); !strings.Contains(got, `"boolean":false`) {
		t.Errorf("got %s", got)
	}
	bad := event.FlagsChanged.New("a", event.ChangedFlag{Key: "a/b", Version: 1, Removed: true})
	if got := h.Deliver(bad); got[0].Status != 422 {
		t.Errorf("got %+v", got)
	}
}

// When the store fails, OpenFeature's client answers with the default, and what was done by it does not commit.
func TestStoreFails(t *testing.T) {
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	client, fails := api.NewClient(), true
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("shop", env)
		if err := api.SetProviderAndWait(t.Context(), provider.New(f).OpenFeature()); err != nil {
			return nil, err
		}
		docs := function.Collection[askInput](f, "docs", store.Entity)
		function.Serve(f, function.Operation{
			Method: http.MethodPost, Path: "/api/ask", Access: function.Public, Status: http.StatusNoContent,
		}, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
			read, cancel := context.WithCancel(provider.With(ctx, tx))
			defer cancel()
			if fails {
				cancel()
			}
			client.Boolean(read, "a", true, openfeature.NewEvaluationContext("ada", nil))
			return nil, docs.Create(ctx, tx, "x", askInput{})
		})
		return f, nil
	})
	if r := h.Call("POST", "/api/ask", functiontest.Nobody, nil); r.Status < 400 {
		t.Errorf("got %d", r.Status)
	}
	fails = false
	h.Call("POST", "/api/ask", functiontest.Nobody, nil).Expect(204) // the document was not created before
}

// At the first sweep of the clock the function asks for the flags from before its trigger existed: once, even when
// it has heard of one.
func TestAskForFlagsFromBefore(t *testing.T) {
	h := newHarness(t)
	swept := event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()})
	h.MustDeliver(changed(2, definition(`"x":false`, "")))
	h.MustDeliver(swept)
	if got := functiontest.Types(h.Emitted()); strings.Join(got, " ") != "flags.announce.v1" {
		t.Errorf("got %v", got)
	}
	h.Restart()
	h.MustDeliver(swept)
	if got := h.Emitted(); len(got) != 0 {
		t.Errorf("it asks again: %v", got)
	}
}
