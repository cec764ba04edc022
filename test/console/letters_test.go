package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/test/shop/inprocess"
)

var manyLetters = flag.Int("letters", 150, "how many dead letters TestManyLetters mends")

type printed struct {
	ID  string `json:"id"`
	Sum int    `json:"sum"`
}

var sheetPrinted = event.Define(trips, "press.printed", 1, event.Fact, "A sheet is printed.", printed{"s", 1})

// newPress declares a function that refuses sheets without a sum, and those that it has already.
func newPress(env function.Env) (*function.Function, error) {
	f := function.New("press", env)
	sheets := function.Collection[printed](f, "sheets")
	function.On(f, sheetPrinted, func(ctx context.Context, tx *function.Tx, s printed) error {
		if s.Sum == 0 {
			return fault.New(fault.Invalid, "the sheet %q has no sum", s.ID)
		}
		if _, twice, err := sheets.Find(ctx, tx, s.ID); err != nil || twice {
			return fault.New(fault.Invalid, "the sheet %q is printed twice: %v", s.ID, err)
		}
		return sheets.Put(ctx, tx, s.ID, s)
	})
	return f, nil
}

// caller calls operations as the administrator.
type caller struct {
	*testing.T
	url, token string
}

func (c *caller) call(method, path string, in, out any) int {
	c.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		c.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
		r.AddCookie(&http.Cookie{Name: "ebb-console", Value: c.token})
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(answer.Body); err != nil {
		c.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(b.Bytes(), out); err != nil {
			c.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, b.String())
		}
	}
	return answer.StatusCode
}

func (c *caller) signIn() {
	c.Helper()
	var t struct {
		Token string `json:"access_token"`
	}
	c.token = ""
	c.call("POST", "/api/sessions", map[string]string{
		"email": inprocess.AdminEmail, "password": inprocess.AdminPassword,
	}, &t)
	c.token = t.Token
}

// Dead letters are mended by one transform and replayed in growing batches, each once, in a shop that runs. With
// -args -letters 10000 it also tells how long that takes, and how long lists do.
func TestManyLetters(t *testing.T) {
	n := *manyLetters
	running := inprocess.Start(t, system.Definition{Name: "press", New: newPress})
	c := &caller{T: t, url: "http://" + running.Address}
	c.signIn()
	for first := 0; first < n; first += 100 {
		var batch []ce.Event
		for i := first; i < min(first+100, n); i++ {
			e := ce.New()
			e.SetID(fmt.Sprintf("01920000-0000-7000-9000-%012d", i))
			e.SetSource("/functions/press")
			e.SetType(sheetPrinted.Name())
			e.SetSubject(fmt.Sprint("s", i))
			e.SetTime(time.Now())
			e.SetExtension("partitionkey", fmt.Sprint("s", i))
			if err := e.SetData(event.ContentType, map[string]any{"id": fmt.Sprint("s", i), "sum": 0}); err != nil {
				t.Fatal(err)
			}
			batch = append(batch, e)
		}
		if err := running.Publisher.Publish(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	within := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 5 minutes: %s", what)
			}
		}
	}
	body := map[string]any{"where": `consumer == "press"`}
	within("there are dead letters", func() bool {
		all := 0
		for cursor := ""; ; {
			var page struct {
				Selected int
				Next     string
			}
			try := map[string]any{"where": body["where"]}
			if cursor != "" {
				try["cursor"] = cursor
			}
			c.call("POST", "/api/archive/mends/dry-run", try, &page)
			if all, cursor = all+page.Selected, page.Next; cursor == "" {
				return all == n
			}
		}
	})
	if n >= 1000 {
		for _, path := range []string{
			"/api/archive/dead-letters?limit=200", "/console/dead-letters", "/console/events", "/console/sagas",
		} {
			var took []time.Duration
			for range 40 {
				begun := time.Now()
				if status := c.call("GET", path, nil, nil); status != 200 {
					t.Fatalf("%s: got %d", path, status)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			t.Logf("%s with %d dead letters: p50 %v, p95 %v", path, n, took[20], took[37])
		}
	}
	c.signIn()
	body["transform"], body["reason"] = `{"sum": times}`, "the sum was left out"
	if n < 1000 {
		body["watch"] = 0
	}
	var m struct {
		ID, State, Why string
		Sent, Failed   int
	}
	begun := time.Now()
	c.call("POST", "/api/archive/mends", body, &m)
	within("the mend ends", func() bool {
		c.call("GET", "/api/archive/mends/"+m.ID, nil, &m)
		return m.State != "running"
	})
	t.Logf("%d dead letters were mended and replayed in %v", m.Sent, time.Since(begun).Round(time.Millisecond))
	if m.State != "done" || m.Sent != n || m.Failed != 0 {
		t.Errorf("got %+v", m)
	}
	var again struct{ Selected int } // those that the press has refused as handled twice
	c.call("POST", "/api/archive/mends/dry-run", map[string]any{"where": body["where"]}, &again)
	if again.Selected != 0 {
		t.Errorf("%d dead letters of the press are left", again.Selected)
	}
}
