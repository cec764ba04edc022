package flags_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/flags"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

type m = map[string]any

var (
	nobody = functiontest.Nobody
	ada    = functiontest.As("ada")
	admin  = functiontest.Admin()
)

// boolean returns the definition of a flag with the variants on and off.
func boolean(defaultVariant string) m {
	return m{"state": "ENABLED", "variants": m{"on": true, "off": false}, "defaultVariant": defaultVariant}
}

func body(definition any, reason string) m { return m{"definition": definition, "reason": reason} }

func add(h *functiontest.Harness, key string, definition any) {
	h.T.Helper()
	h.Call("PUT", "/api/flags/"+key, admin, body(definition, "a start"), "If-None-Match", "*").Expect(201)
}

// told returns the data of the flags.changed events since the last call.
func told(h *functiontest.Harness) (all []event.ChangedFlag) {
	h.T.Helper()
	for _, e := range h.Emitted() {
		if e.Type() != event.FlagsChanged.Name() {
			continue
		}
		data, err := event.FlagsChanged.Decode(e)
		if err != nil {
			h.T.Fatal(err)
		}
		if e.Subject() != data.Key || e.Extensions()[event.Sequence] != fmt.Sprint(data.Version) {
			h.T.Errorf("the event %v does not fit its data", e)
		}
		all = append(all, data)
	}
	return all
}

func history(h *functiontest.Harness, key string) (all []string) {
	h.T.Helper()
	var page struct{ Items []flags.Change }
	h.Call("GET", "/api/flags/"+key+"/history", admin, nil).Expect(200).JSON(&page)
	for _, c := range page.Items {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", c.Version, c.By, c.What, c.Reason)))
	}
	slices.Reverse(all)
	return all
}

// A flag is added, changed, switched off and on, removed and added again. Each version is one event, and the history
// has who did what and why.
func TestLifeOfAFlag(t *testing.T) {
	h := functiontest.New(t, flags.New)
	const path = "/api/flags/new-checkout"
	r := h.Call("PUT", path, admin, body(boolean("off"), "a start"), "If-None-Match", "*").Expect(201)
	if r.Header.Get("ETag") != `"1"` || r.Header.Get("Location") != path {
		t.Errorf("got %v", r.Header)
	}
	h.Clock.Advance(time.Minute)
	h.Call("PUT", path, admin, body(boolean("on"), "again"), "If-None-Match", "*").Expect(412)
	h.Call("PUT", path, admin, body(boolean("on"), "")).Expect(428)
	h.Call("PUT", path, admin, body(boolean("on"), ""), "If-Match", `"7"`).Expect(412)
	h.Call("PUT", path, admin, body(boolean("on"), "it works"), "If-Match", `"1"`).Expect(200)
	h.Clock.Advance(time.Minute)
	h.Call("PUT", path, admin, body(boolean("on"), "no change"), "If-Match", `"2"`).Expect(200)
	h.Call("POST", path+"/disable", admin, m{"reason": "it burns"}).Expect(200)
	h.Call("POST", path+"/disable", admin, m{"reason": "it burns"}).Expect(200)
	h.Clock.Advance(time.Minute)
	h.Call("POST", path+"/disable", admin, m{}).Expect(422)
	r = h.Call("POST", path+"/enable", admin, m{"reason": "mended"}).Expect(200)
	if r.Header.Get("ETag") != `"4"` {
		t.Errorf("got %v", r.Header)
	}
	h.Clock.Advance(time.Minute)
	h.Call("DELETE", path, admin, nil).Expect(428)
	h.Call("DELETE", path+"?reason=done", admin, nil, "If-Match", `"3"`).Expect(412)
	h.Call("DELETE", path+"?reason=done", admin, nil, "If-Match", `"4"`).Expect(204)
	h.Clock.Advance(time.Minute)
	h.Call("GET", path, admin, nil).Expect(404)
	h.Call("PUT", path, admin, body(boolean("on"), ""), "If-Match", `"5"`).Expect(404)
	add(h, "new-checkout", boolean("off"))
	r = h.Call("GET", path, admin, nil).Expect(200)
	h.Call("GET", path, admin, nil, "If-None-Match", r.Header.Get("ETag")).Expect(304)
	var got flags.Flag
	if r.JSON(&got); got.Version != 6 || !got.CreatedAt.Equal(h.Clock.Now()) {
		t.Errorf("got %+v", got)
	}
	want := []string{"1 admin added a start", "2 admin changed it works", "3 admin disabled it burns",
		"4 admin enabled mended", "5 admin removed done", "6 admin added a start"}
	if got := history(h, "new-checkout"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	var versions []string
	for _, c := range told(h) {
		on := strings.Contains(string(c.Definition), "ENABLED")
		versions = append(versions, fmt.Sprint(c.Version, on, c.Removed))
	}
	want = []string{"1 true false", "2 true false", "3 false false", "4 true false", "5 false true", "6 true false"}
	if !slices.Equal(versions, want) {
		t.Errorf("got %q", versions)
	}
}

// What is not valid is refused, and customers see and change nothing.
func TestRefused(t *testing.T) {
	h := functiontest.New(t, flags.New)
	for path, definition := range map[string]any{
		"/api/flags/a":                           m{"state": "ENABLED"},
		"/api/flags/b":                           "x",
		"/api/flags/c":                           nil,
		"/api/flags/" + strings.Repeat("x", 129): boolean("on"),
		"/api/flags/.a":                          boolean("on"),
		"/api/flags/d":                           boolean("maybe"),
	} {
		h.Call("PUT", path, admin, body(definition, ""), "If-None-Match", "*").Expect(422)
	}
	add(h, "a", boolean("on"))
	for _, c := range []string{"GET /api/flags", "GET /api/flags/a", "PUT /api/flags/a", "DELETE /api/flags/a",
		"POST /api/flags/a/disable", "POST /api/flags/a/enable", "GET /api/flags/a/history", "GET /api/flags/a/scheduled",
		"POST /api/flags/a/scheduled", "DELETE /api/flags/a/scheduled/x"} {
		method, path, _ := strings.Cut(c, " ")
		h.Call(method, path, nobody, m{}).Expect(401)
		h.Call(method, path, ada, m{}).Expect(403)
	}
	h.Call("POST", "/ofrep/v1/evaluate/flags", nobody, m{}).Expect(401)
	if got := told(h); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

// A scheduled change is made when it is due, once, if the flag is still the version that it was made for. It can be
// cancelled.
func TestScheduledChange(t *testing.T) {
	h := functiontest.New(t, flags.New)
	add(h, "a", boolean("off"))
	const path = "/api/flags/a/scheduled"
	due := h.Clock.Now().Add(time.Hour)
	later := m{"due": due, "definition": boolean("on"), "reason": "launch"}
	h.Call("POST", path, admin, later).Expect(428)
	h.Call("POST", path, admin, later, "If-Match", `"2"`).Expect(412)
	h.Call("POST", path, admin, m{"due": h.Clock.Now(), "definition": boolean("on")}, "If-Match", `"1"`).Expect(422)
	h.Call("POST", path, admin, m{"due": due, "definition": boolean("x")}, "If-Match", `"1"`).Expect(422)
	var first, second, third flags.Scheduled
	schedule := func(into *flags.Scheduled) {
		t.Helper()
		h.Call("POST", path, admin, later, "If-Match", `"1"`).Expect(201).JSON(into)
	}
	schedule(&first)
	schedule(&second)
	schedule(&third)
	var page struct{ Items []flags.Scheduled }
	h.Call("GET", path, admin, nil).Expect(200).JSON(&page)
	if len(page.Items) != 3 || !page.Items[0].Due.Equal(due) || page.Items[0].By != "admin" {
		t.Errorf("got %+v", page.Items)
	}
	h.Call("DELETE", path+"/"+first.ID, admin, nil).Expect(204)
	h.Call("DELETE", path+"/"+first.ID, admin, nil).Expect(404)
	h.Call("DELETE", "/api/flags/b/scheduled/"+second.ID, admin, nil).Expect(404)
	h.Clock.Advance(time.Hour)
	h.Emitted()
	for _, s := range []flags.Scheduled{first, second, second, third} {
		h.MustDeliver(event.FlagsApply.New("a", event.ApplyFlagChange{Key: "a", ChangeID: s.ID, Due: due}))
	}
	if got := told(h); len(got) != 1 || got[0].Version != 2 {
		t.Errorf("got %+v", got)
	}
	want := []string{"1 admin added a start", "2 admin applied launch", "2 admin left-out launch"}
	got := history(h, "a")
	if got = got[len(got)-2:]; !slices.Equal(got, want[1:]) && !slices.Equal(got, []string{want[2], want[1]}) {
		t.Errorf("got %q", got)
	}
}

// Every timer of a scheduled change is one that the clock gets, and cancelling takes it back.
func TestScheduledTimers(t *testing.T) {
	h := functiontest.New(t, flags.New)
	add(h, "a", boolean("off"))
	h.Emitted()
	var s flags.Scheduled
	h.Call("POST", "/api/flags/a/scheduled", admin, m{"due": h.Clock.Now().Add(time.Hour), "definition": boolean("on")},
		"If-Match", `"1"`).Expect(201).JSON(&s)
	h.Call("DELETE", "/api/flags/a/scheduled/"+s.ID, admin, nil).Expect(204)
	if got := functiontest.Types(h.Emitted()); !slices.Equal(got, []string{"clock.schedule.v1", "clock.cancel.v1"}) {
		t.Errorf("got %v", got)
	}
}

func evaluate(h *functiontest.Harness, key string, context any) (int, string) {
	h.T.Helper()
	r := h.Call("POST", "/ofrep/v1/evaluate/flags/"+key, ada, m{"context": context})
	return r.Status, strings.TrimSpace(string(r.Body))
}

// A program evaluates a flag by OFREP. Errors have OFREP's form.
func TestEvaluate(t *testing.T) {
	h := functiontest.New(t, flags.New)
	targeted := boolean("off")
	targeted["targeting"] = m{"if": []any{m{"ends_with": []any{m{"var": "email"}, "@example.com"}}, "on", nil}}
	targeted["metadata"] = m{"owner": "shop"}
	broken := boolean("off")
	broken["targeting"] = m{"if": []any{true, "maybe"}}
	undecided := boolean("off")
	delete(undecided, "defaultVariant")
	add(h, "targeted", targeted)
	add(h, "broken", broken)
	add(h, "undecided", undecided)
	add(h, "disabled", boolean("on"))
	h.Call("POST", "/api/flags/disabled/disable", admin, m{"reason": "x"}).Expect(200)
	for _, c := range []struct {
		key     string
		context any
		status  int
		body    string
	}{
		{"targeted", m{"targetingKey": "ada", "email": "ada@example.com"}, 200,
			`{"key":"targeted","variant":"on","reason":"TARGETING_MATCH","metadata":{"owner":"shop"},"value":true}`},
		{"targeted", m{}, 200,
			`{"key":"targeted","variant":"off","reason":"DEFAULT","metadata":{"owner":"shop"},"value":false}`},
		{"targeted", nil, 200,
			`{"key":"targeted","variant":"off","reason":"DEFAULT","metadata":{"owner":"shop"},"value":false}`},
		{"undecided", m{}, 200, `{"key":"undecided","reason":"DEFAULT"}`},
		{"disabled", m{}, 200, `{"key":"disabled","reason":"DISABLED"}`},
		{"broken", m{}, 400,
			`{"key":"broken","errorCode":"GENERAL","errorDetails":"the targeting chose \"maybe\", which is no variant"}`},
		{"unknown", m{}, 404,
			`{"key":"unknown","errorCode":"FLAG_NOT_FOUND","errorDetails":"there is no flag \"unknown\""}`},
		{"targeted", []int{1}, 400,
			`{"key":"targeted","errorCode":"INVALID_CONTEXT","errorDetails":"invalid context: want an object"}`},
		{"targeted", m{"targetingKey": 1}, 400,
			`{"key":"targeted","errorCode":"INVALID_CONTEXT","errorDetails":"invalid targetingKey: want a string"}`},
	} {
		if status, body := evaluate(h, c.key, c.context); status != c.status || body != c.body {
			t.Errorf("%s with %v: got %d %s, want %s", c.key, c.context, status, body, c.body)
		}
	}
}

// The answer of a bulk evaluation has an ETag that changes when a value changes for the context, and not before.
func TestEvaluateAll(t *testing.T) {
	h := functiontest.New(t, flags.New)
	ask := func(tag string, context any) *functiontest.Response {
		t.Helper()
		return h.Call("POST", "/ofrep/v1/evaluate/flags", ada, m{"context": context}, "If-None-Match", tag)
	}
	if r := ask(`"none"`, m{}).Expect(200); strings.TrimSpace(string(r.Body)) != `{"flags":[]}` {
		t.Errorf("got %s", r.Body)
	}
	for i := range 30 {
		add(h, fmt.Sprintf("flag-%02d", i), boolean("on"))
	}
	r := ask(`"none"`, m{"x": 1}).Expect(200)
	var all struct{ Flags []flags.Evaluated }
	if r.JSON(&all); len(all.Flags) != 30 || all.Flags[29].Key != "flag-29" || all.Flags[29].Value != true {
		t.Errorf("got %+v", all)
	}
	tag := r.Header.Get("ETag")
	ask(tag, m{"x": 1}).Expect(http.StatusNotModified)
	h.Call("PUT", "/api/flags/flag-07", admin, body(boolean("off"), ""), "If-Match", `"1"`).Expect(200)
	if r := ask(tag, m{"x": 1}).Expect(200); r.Header.Get("ETag") == tag {
		t.Errorf("the ETag stays %s", tag)
	}
	ask("", []int{}).Expect(400)
}

// A flag that is off and is switched off stays off, also when a change is scheduled that switches it on.
func TestDisabledBeforeItsSchedule(t *testing.T) {
	h := functiontest.New(t, flags.New)
	off, on := boolean("on"), boolean("on")
	off["state"] = "DISABLED"
	add(h, "a", off)
	var s flags.Scheduled
	h.Call("POST", "/api/flags/a/scheduled", admin,
		m{"due": h.Clock.Now().Add(time.Hour), "definition": on}, "If-Match", `"1"`).Expect(201).JSON(&s)
	for range 2 {
		r := h.Call("POST", "/api/flags/a/disable", admin, m{"reason": "it burns"}).Expect(200)
		if r.Header.Get("ETag") != `"2"` {
			t.Errorf("got %v", r.Header)
		}
	}
	h.MustDeliver(event.FlagsApply.New("a", event.ApplyFlagChange{Key: "a", ChangeID: s.ID, Due: s.Due}))
	var f flags.Flag
	h.Call("GET", "/api/flags/a", admin, nil).Expect(200).JSON(&f)
	if !strings.Contains(string(f.Definition), "DISABLED") {
		t.Errorf("got %s, %q", f.Definition, history(h, "a"))
	}
}

// When a function is new that consumes flags.changed, all flags are told again, in portions, and once. So are removed
// ones: a function that comes back has them still.
func TestNewConsumer(t *testing.T) {
	consumers := []string{"payments"}
	system := func() (s manifest.System) {
		for _, name := range consumers {
			s.Functions = append(s.Functions, &manifest.Declaration{
				Function: manifest.Function{Name: name, Consumes: []string{event.FlagsChanged.Name()}},
			})
		}
		return s
	}
	h := functiontest.New(t, flags.New, functiontest.Beside(system))
	for i := range 45 {
		add(h, fmt.Sprintf("flag-%02d", i), boolean("on"))
	}
	add(h, "removed", boolean("on"))
	h.Call("DELETE", "/api/flags/removed", admin, nil, "If-Match", `"1"`).Expect(204)
	h.Emitted()
	sweep := func() (again int) {
		t.Helper()
		next := []event.Draft{event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()})}
		for len(next) > 0 {
			h.MustDeliver(next...)
			next = nil
			for _, e := range h.Emitted() {
				switch e.Type() {
				case event.FlagsAnnounce.Name():
					data, err := event.FlagsAnnounce.Decode(e)
					if err != nil {
						t.Fatal(err)
					}
					next = append(next, event.FlagsAnnounce.New("only", data))
				case event.FlagsChanged.Name():
					again++
				}
			}
		}
		return again
	}
	for i, want := range []int{46, 0, 46, 0, 0, 46} {
		switch i {
		case 2:
			consumers = append(consumers, "reviews")
		case 4:
			consumers = consumers[:1]
		case 5:
			consumers = []string{"payments", "reviews"}
		}
		if got := sweep(); got != want {
			t.Errorf("sweep %d: %d flags were told again, want %d", i, got, want)
		}
	}
}

// Under every fault a change is made once, and told.
func TestUnderFaults(t *testing.T) {
	functiontest.UnderFaults(t, flags.New, func(h *functiontest.Harness) {
		add(h, "a", boolean("off"))
		var s flags.Scheduled
		h.Call("POST", "/api/flags/a/scheduled", admin,
			m{"due": h.Clock.Now().Add(time.Hour), "definition": boolean("on")}, "If-Match", `"1"`).Expect(201).JSON(&s)
		h.MustDeliver(event.FlagsApply.New("a", event.ApplyFlagChange{Key: "a", ChangeID: s.ID, Due: s.Due}))
		h.Call("POST", "/api/flags/a/disable", admin, m{"reason": "it burns"}).Expect(200)
		if got := history(h, "a"); len(got) != 4 {
			h.T.Errorf("got %q", got)
		}
		var versions []int // the first may be told last, by the sweep
		for _, c := range told(h) {
			versions = append(versions, c.Version)
		}
		if slices.Sort(versions); !slices.Equal(versions, []int{1, 2, 3}) {
			h.T.Errorf("told of the versions %v", versions)
		}
	})
}

// The key that no test of the rules has seen: bodies are limited, and so is the number of flags.
func TestLimits(t *testing.T) {
	h := functiontest.New(t, flags.New)
	large := boolean("on")
	large["metadata"] = m{"x": strings.Repeat("x", 33<<10)}
	h.Call("PUT", "/api/flags/a", admin, body(large, ""), "If-None-Match", "*").Expect(422)
	for i := range 500 {
		add(h, fmt.Sprintf("flag-%03d", i), boolean("on"))
	}
	h.Call("PUT", "/api/flags/a", admin, body(boolean("on"), ""), "If-None-Match", "*").Expect(422)
	h.Call("DELETE", "/api/flags/flag-250", admin, nil, "If-Match", "*").Expect(204)
	add(h, "a", boolean("on"))
}
