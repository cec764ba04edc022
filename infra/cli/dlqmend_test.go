package cli

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A dry run adds up its pages and prints examples. A mend is followed until it ends; one that stops is an error. What
// the archive gets is what the flags say.
func TestDlqMend(t *testing.T) {
	f := newFake(t)
	tries := 0
	states := []string{`{"id":"m1","state":"running","sent":1}`, `{"id":"m1","state":"done","sent":11,"refused":1,` +
		`"refusals":[{"id":"n1","why":"transform, line 1"}]}`}
	f.mux.HandleFunc("POST /api/archive/mends/dry-run", func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries == 2 {
			_, _ = io.WriteString(w, `{"looked":3,"selected":1,"changed":1,"refused":1,"refusals":[{"id":"n9","why":"no"}]}`)
			return
		}
		_, _ = io.WriteString(w, `{"looked":2,"selected":2,"changed":1,"next":"c",`+
			`"examples":[{"id":"n0","before":{"a":1},"after":{"a":2}}]}`)
	})
	f.mux.HandleFunc("POST /api/archive/mends", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, states[0])
	})
	f.mux.HandleFunc("GET /api/archive/mends/m1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, states[1])
	})
	code, out, errs, asked := f.run(t, "dlq", "mend", "--where", "times > 1", "--transform", "{}", "--dry-run")
	want := "n0\n  {\"a\":1}\n  {\"a\":2}\nn9 cannot be mended: no\n" +
		"Of 5 dead letters 3 are selected, and 2 get other data. 1 cannot be mended.\n"
	if code != 0 || out != want || len(asked) != 2 || !strings.Contains(asked[1], `"cursor":"c"`) {
		t.Errorf("the dry run: got %d, %q, %s", code, out, errs)
	}
	code, out, errs, asked = f.run(t, "dlq", "mend", "--transform", "{}", "--reason", "why not", "--watch", "2s")
	if code != 0 || !strings.Contains(out, "1 are on their way") ||
		!strings.Contains(out, "n1 cannot be mended: transform, line 1\nDone: 11 were delivered again, 1 could not") {
		t.Errorf("the mend: got %d, %q, %s", code, out, errs)
	}
	if !strings.HasSuffix(asked[0], `{"reason":"why not","transform":"{}","watch":2}`) {
		t.Errorf("the archive gets %q", asked[0])
	}
	states[0] = `{"id":"m1","state":"stopped","sent":1,"why":"n0 failed again in orders"}`
	code, _, errs, _ = f.run(t, "dlq", "mend", "--transform", "{}", "--reason", "x")
	if code != 1 || !strings.Contains(errs, "has stopped after 1: n0 failed again in orders") {
		t.Errorf("one that stops: got %d, %s", code, errs)
	}
	for args, want := range map[string]string{
		"dlq mend": "wants --where", "dlq mend --where true": "--reason", "dlq mends stop m1": "--reason",
		"dlq mend --where true --watch -1s --reason x": "must not be negative",
	} {
		if code, _, errs, _ := f.run(t, strings.Fields(args)...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%s: got %d, %s", args, code, errs)
		}
	}
}
