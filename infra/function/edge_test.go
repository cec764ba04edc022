package function_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// A path or a query that is no text is refused by every operation before its handler runs.
func TestRequestsThatAreNoTextAreRefused(t *testing.T) {
	h := functiontest.New(t, counting)
	for _, target := range []string{
		"/api/counters/%ff", "/api/counters/a%00b", "/api/counters/a?x=%ff", "/api/counters/a?%00",
	} {
		for _, method := range []string{"GET", "POST"} {
			h.Call(method, target, functiontest.As("ada"), map[string]int{"by": 1}).Expect(400)
		}
	}
}

// Two credentials are none, and two keys no key.
func TestFieldsThatMustNotRepeat(t *testing.T) {
	h := functiontest.New(t, counting)
	for name, status := range map[string]int{"Authorization": 401, "Idempotency-Key": 400, "Content-Type": 400} {
		r := httptest.NewRequest(http.MethodPost, "/api/counters/a", nil)
		r.Header.Set("Authorization", "Bearer "+h.Token(functiontest.As("ada")))
		r.Header.Add(name, r.Header.Get(name))
		r.Header.Add(name, r.Header.Get(name))
		w := httptest.NewRecorder()
		if h.I.ServeHTTP(w, r); w.Code != status {
			t.Errorf("two lines of %s: got %d, want %d", name, w.Code, status)
		}
	}
}

type orderBody struct {
	Lines  []orderLine          `json:"lines,omitempty" maxItems:"100"`
	Labels map[string]orderLine `json:"labels,omitempty"`
	Note   string               `json:"note,omitempty"`
	Size   int32                `json:"size,omitempty"`
	Big    float64              `json:"big,omitempty"`
}

type orderLine struct {
	ID string   `json:"id" maxLength:"36"`
	N  int      `json:"n" minimum:"1"`
	On []string `json:"on,omitempty" maxItems:"3"`
}

// ordering takes bodies with bounded and unbounded parts.
func ordering(env function.Env) (*function.Function, error) {
	f := function.New("ordering", env)
	function.Collection[orderBody](f, "bodies")
	type input struct{ Body orderBody }
	type output struct{ Body string }
	serve := func(_ context.Context, _ *function.Tx, in *input) (*output, error) {
		var all []fault.Detail
		for i := range in.Body.Size {
			all = append(all, fault.Detail{Location: fmt.Sprint(i), Message: "is wrong"})
		}
		if all != nil {
			return nil, fault.New(fault.Invalid, "so many").With(all...)
		}
		return &output{"ok"}, nil
	}
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/bodies"}, serve)
	return f, nil
}

// No body of 1 MiB makes more than 1 MiB of answer or 8 MiB of memory.
func TestABodyCostsLittle(t *testing.T) {
	h := functiontest.New(t, ordering)
	fill := func(begin, again, end string) string {
		const size = 1<<20 - 100
		return begin + strings.Repeat(again, (size-len(begin)-len(end))/len(again)) + end
	}
	names := func(format, end string) string {
		var b strings.Builder
		for b.WriteByte('{'); b.Len() < 1<<20-600; {
			fmt.Fprintf(&b, format, b.Len())
		}
		return b.String() + end
	}
	wrong := names(`"n%0120d":{"id":"`+strings.Repeat("a", 450)+`","n":0},`, `"z":{"id":1,"n":0}}}`)
	token := "Bearer " + h.Token(functiontest.As("ada"))
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"one long text":       {fill(`{"note":"`, "a", `"}`), 200},
		"empty lines":         {fill(`{"lines":[`, `{},`, `{}]}`), 422},
		"empty arrays":        {fill(`[`, `[],`, `[]]`), 400},
		"numbers":             {fill(`{"x":[`, `1,`, `1]}`), 400},
		"deep arrays":         {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), 400},
		"deep objects":        {strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), 400},
		"unknown members":     {names(`"n%d":1,`, `"z":1}`), 422},
		"few unknown members": {names(`"n%0120d":1,`, `"z":1}`), 422},
		"labels":              {`{"labels":` + names(`"n%d":{},`, `"z":1}}`), 422},
		"wrong labels":        {`{"labels":` + wrong, 422},
		"lines":               {fill(`{"lines":[`, `{"id":"a","n":1},`, `{"id":"a","n":1}]}`), 422},
		"few labels":          {`{"labels":` + names(`"n%0120d":{},`, `"z":1}}`), 422},
		"a long unknown name": {fill(`{"`, `<`, `":1}`), 400},
		"a long name, twice":  {`{"` + strings.Repeat("<", 500_000) + `":1,"` + strings.Repeat("<", 500_000) + `":2}`, 400},
		"no JSON":             {fill(`{"lines":[`, `{},`, `{}}`), 400},
		"too large":           {strings.Repeat(" ", 1<<20) + "{}", 413},
		"many faults":         {`{"size":1000}`, 422},
		"escapes":             {fill(`{"note":"`, `\u0000`, `"}`), 200},
	} {
		r := httptest.NewRequest("POST", "/api/bodies", bytes.NewReader([]byte(c.body)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.I.ServeHTTP(w, r)
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		if w.Code != c.status || w.Body.Len() > 1<<20 || used > memoryLimit {
			t.Errorf("%s: got %d with %d bytes of answer and %d KiB of memory, want %d: %.100s",
				name, w.Code, w.Body.Len(), used>>10, c.status, w.Body)
		}
		if n := strings.Count(w.Body.String(), `"message"`); n > 20 {
			t.Errorf("%s: %d faults are listed", name, n)
		}
	}
}

// What is wrong with a body is told in the terms of the API.
func TestAProblemNamesNoGoType(t *testing.T) {
	h := functiontest.New(t, ordering)
	for _, body := range []string{
		`{"size":3000000000}`, `{"size":1e300}`, `{"big":1e400}`, `{"size":"a"}`, `{"lines":{}}`, `{"lines":[1]}`, `[]`,
		`1`, `"a"`, `{"note":`, `{"lines":[{"id":"a","n":1e30}]}`,
	} {
		r := h.Call("POST", "/api/bodies", functiontest.As("ada"), body)
		text := string(r.Body)
		for _, name := range []string{"Go ", "int32", "float64", "function"} {
			if r.Status/100 != 4 || strings.Contains(text, name) {
				t.Errorf("%s: got %d %s", body, r.Status, text)
			}
		}
	}
}

// A body is JSON in UTF-8, and its Content-Type says so in any case of letters.
func TestContentTypes(t *testing.T) {
	h := functiontest.New(t, ordering)
	for said, status := range map[string]int{
		"application/json": 200, "Application/JSON": 200, "application/json; charset=UTF-8": 200,
		"application/merge-patch+json":     200,
		"application/json; charset=latin1": 415, "text/plain": 415, "": 415, "application/json; charset": 415,
		"application/cbor": 415,
	} {
		r := h.Call("POST", "/api/bodies", functiontest.As("ada"), `{"note":"a"}`, "Content-Type", said)
		if r.Status != status {
			t.Errorf("%q: got %d %s, want %d", said, r.Status, r.Body, status)
		}
	}
}
