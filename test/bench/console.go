package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

// What the archive is filled with: events of orders, some of one busy subject, and dead letters of ten causes.
const (
	eventsOfOrder  = 12
	busyEvery      = 50 // each of these is about the busy subject
	filledAtOnce   = 1024
	filledDays     = 20
	deadLetterSize = 600 // bytes of text in the data
)

// nowhere publishes nothing.
type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }

// filled is what the searches look for.
type filled struct {
	orders, ids []string // some of them
	from, until time.Time
}

// fill writes events and dead letters into the store of an archive, through its own code, as if they had come in the
// last days.
func fill(ctx context.Context, dir string, count, letters int) (*filled, error) {
	until := time.Now().Add(-time.Minute)
	f := &filled{from: until.Add(-filledDays * 24 * time.Hour), until: until}
	now := f.from
	made, err := archive.New(function.Env{
		Store: sqlite.Opener(dir), Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler),
		System: functions.System().Declared(), Now: func() time.Time { return now },
	})
	if err != nil {
		return nil, err
	}
	instance := made.Instance()
	if err := instance.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { _ = instance.Stop(ctx) }()
	order := ""
	text := strings.Repeat("x", 350)
	next := func(n int) ce.Event {
		if n%eventsOfOrder == 0 {
			order = idAt(now)
			if n%(eventsOfOrder*997) == 0 {
				f.orders = append(f.orders, order)
			}
		}
		e := ce.New()
		e.SetID(idAt(now))
		e.SetSource("/functions/orders")
		e.SetType(fmt.Sprintf("dev.ebb.orders.step-%d.v1", n%eventsOfOrder))
		if n == 7 {
			e.SetType("dev.ebb.orders.rare.v1")
		}
		e.SetSubject(order)
		if n%busyEvery == 0 {
			e.SetSubject("busy")
		}
		e.SetTime(now)
		e.SetExtension(event.PartitionKey, order)
		e.SetExtension(event.CorrelationID, order)
		_ = e.SetData(ce.ApplicationJSON, map[string]any{"order_id": order, "n": n, "text": text})
		if n%10_007 == 0 {
			f.ids = append(f.ids, e.ID())
		}
		return e
	}
	batch := make([]ce.Event, 0, filledAtOnce)
	for n := 0; n < count; {
		batch = batch[:0]
		for len(batch) < filledAtOnce && n < count {
			batch = append(batch, next(n))
			n++
		}
		if err := receiveAll(ctx, instance, batch); err != nil {
			return nil, err
		}
		now = f.from.Add(time.Duration(float64(until.Sub(f.from)) * float64(n) / float64(count)))
	}
	now = until
	for n := 0; n < letters; {
		batch = batch[:0]
		for len(batch) < filledAtOnce && n < letters {
			e := next(n)
			_ = e.SetData(ce.ApplicationJSON, map[string]any{"n": n, "text": strings.Repeat("y", deadLetterSize)})
			e.SetExtension(broker.ErrorDest, fmt.Sprintf("/functions/f%d", n%10))
			e.SetExtension(broker.ErrorCode, "422")
			e.SetExtension(broker.ErrorData, fmt.Sprintf("the amount %d of %q is too large", n, e.ID()))
			batch = append(batch, e)
			n++
		}
		if err := receiveAll(ctx, instance, batch); err != nil {
			return nil, err
		}
		now = now.Add(time.Millisecond)
	}
	return f, nil
}

// idAt returns a UUIDv7 of a time.
func idAt(t time.Time) string {
	id := uuid.Must(uuid.NewV7())
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(t.UnixMilli()))
	copy(id[:6], at[2:])
	return id.String()
}

func receiveAll(ctx context.Context, i host.Instance, batch []ce.Event) error {
	for _, r := range i.Receive(ctx, batch) {
		if !r.OK() {
			return fmt.Errorf("an event was not stored: %+v", r)
		}
	}
	return nil
}

// looks is how often each list and search is asked for.
const looks = 40

// The reach of lists and pages.
const (
	reachList  = "p95 ≤ 200 ms"
	reachFirst = "≤ 200 ms, ≤ 150 KB"
)

// console measures the lists and searches of the archive and of the console with many events and dead letters, and what
// the console itself weighs.
func (b *bench) console(ctx context.Context) error {
	const name = "console"
	begin := time.Now()
	f, err := fill(ctx, filepath.Join(b.dir, name, "store"), b.archived, b.letters)
	if err != nil {
		return fmt.Errorf("fill the archive: %w", err)
	}
	b.add("archive filled", fmt.Sprintf("%.0f events/s", float64(b.archived)/time.Since(begin).Seconds()), "",
		fmt.Sprintf("%d events and %d dead letters, %d at once, SQLite", b.archived, b.letters, filledAtOnce))
	p, _, err := b.system(ctx, name)
	if err != nil {
		return err
	}
	v := &visitor{base: p.URL(), client: &http.Client{Timeout: time.Minute}}
	if v.token, err = shop.NewClient(p.URL(), 1).Login(ctx, shop.AdminEmail, shop.AdminPassword); err != nil {
		return err
	}
	first, err := v.firstScreen(ctx)
	if err != nil {
		return err
	}
	b.add("first screen of the console", fmt.Sprintf("%s, %.0f KB", ms(first.took), float64(first.bytes)/1000), reachFirst,
		"page, style and script, right after the system was started")
	for _, q := range f.searches() {
		if err := b.search(ctx, v, q); err != nil {
			return err
		}
	}
	if err := b.weigh(ctx, p, v); err != nil {
		return err
	}
	return p.Stop(ctx)
}

// query is a list or a search.
type query struct {
	what string
	path func(n int) string // of the nth look
}

// searches are the lists and searches that are measured.
func (f *filled) searches() []query {
	r := rand.New(rand.NewPCG(1, 2))
	same := func(path string) func(int) string { return func(int) string { return path } }
	some := func(format string, of []string) func(int) string {
		return func(int) string { return fmt.Sprintf(format, url.QueryEscape(of[r.IntN(len(of))])) }
	}
	at := func(int) time.Time { return f.from.Add(time.Duration(r.Float64() * float64(f.until.Sub(f.from)))) }
	window := func(format string) func(int) string {
		return func(n int) string {
			t := at(n).UTC()
			return fmt.Sprintf(format, t.Format(time.RFC3339), t.Add(time.Hour).Format(time.RFC3339))
		}
	}
	const events, pages = "/api/archive/events", "/console/events"
	return []query{
		{"events, newest", same(events + "?order=desc")},
		{"events, oldest", same(events)},
		{"events, 500 of one hour", window(events + "?limit=500&since=%s&until=%s")},
		{"events of a type", func(n int) string {
			return fmt.Sprintf("%s?order=desc&type=dev.ebb.orders.step-%d.v1", events, n%eventsOfOrder)
		}},
		{"events of a type with one event", same(events + "?type=dev.ebb.orders.rare.v1&order=desc")},
		{"events of a type with none", same(events + "?type=dev.ebb.orders.none.v1&order=desc")},
		{"events of an order", some(events+"?subject=%s", f.orders)},
		{"events of a correlation", some(events+"?correlation=%s", f.orders)},
		{"events of a busy subject", same(events + "?subject=busy&order=desc")},
		{"events of a busy subject and a rare type", same(events + "?subject=busy&type=dev.ebb.orders.rare.v1")},
		{"events of a type, in one hour", window(events + "?type=dev.ebb.orders.step-3.v1&since=%s&until=%s")},
		{"an event by its id", some(events+"/%s", f.ids)},
		{"an event by an unknown UUIDv7", func(n int) string {
			return events + "/" + idAt(at(n))
		}},
		{"an event by an unknown id", same(events + "/unknown")},
		{"causality of an order", some("/api/archive/causality/%s", f.orders)},
		{"causality of a busy subject", same("/api/archive/causality/busy")},
		{"dead letters, 50", same("/api/archive/dead-letters")},
		{"dead letters, 200", same("/api/archive/dead-letters?limit=200")},
		{"dead letters sent again", same("/api/archive/dead-letters?state=replayed")},
		{"mends", same("/api/archive/mends")},
		{"page: events", same(pages)},
		{"page: events of a type", same(pages + "?type=dev.ebb.orders.step-5.v1")},
		{"page: events of an order", some(pages+"?subject=%s", f.orders)},
		{"page: events of one hour", window(pages + "?since=%s&until=%s")},
		{"page: an event", some(pages+"/%s", f.ids)},
		{"page: trace of an order", some("/console/trace/%s", f.orders)},
		{"page: trace of a busy subject", same("/console/trace/busy")},
		{"page: dead letters", same("/console/dead-letters")},
		{"page: sagas", same("/console/sagas")},
		{"page: map", same("/console/map")},
		{"page: functions", same("/console/functions")},
		{"page: a function", same("/console/functions/archive")},
		{"page: configuration", same("/console/configuration")},
		{"page: a collection", same("/console/documents/catalog/products")},
		{"page: flags", same("/console/flags")},
	}
}

// search measures one list or search.
func (b *bench) search(ctx context.Context, v *visitor, q query) error {
	var took []time.Duration
	largest := 0
	for n := range looks {
		a, err := v.get(ctx, q.path(n))
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		took, largest = append(took, a.took), max(largest, a.bytes)
	}
	slices.Sort(took)
	b.add(q.what, fmt.Sprintf("p50 %s, p95 %s", ms(load.Quantile(took, 0.5)), ms(load.Quantile(took, 0.95))), reachList,
		fmt.Sprintf("one after the other, %d times, at most %.0f KB", looks, float64(largest)/1000))
	return nil
}

// visitor asks as an administrator, for the API and for pages.
type visitor struct {
	base, token string
	client      *http.Client
}

// answered is an answer: how long it took until the last byte, and how many bytes the body has.
type answered struct {
	took  time.Duration
	bytes int
	body  []byte
}

// get asks for a path. That nothing is found is an answer; another failure is an error.
func (v *visitor) get(ctx context.Context, path string) (a answered, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return a, err
	}
	if strings.HasPrefix(path, "/console") {
		r.AddCookie(&http.Cookie{Name: "ebb-console", Value: v.token})
	} else {
		r.Header.Set("Authorization", "Bearer "+v.token)
	}
	begin := time.Now()
	answer, err := v.client.Do(r)
	if err != nil {
		return a, err
	}
	defer answer.Body.Close()
	if a.body, err = io.ReadAll(answer.Body); err != nil {
		return a, err
	}
	a.took, a.bytes = time.Since(begin), len(a.body)
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound {
		return a, fmt.Errorf("GET %s: status %d: %.300s", path, answer.StatusCode, a.body)
	}
	return a, nil
}

// firstScreen asks for the first page and what it loads.
func (v *visitor) firstScreen(ctx context.Context) (all answered, err error) {
	page, err := v.get(ctx, "/console")
	if err != nil {
		return all, err
	}
	all = page
	for _, part := range strings.Split(string(page.body), `"`) {
		if !strings.HasPrefix(part, "/console/static/") {
			continue
		}
		a, err := v.get(ctx, part)
		if err != nil {
			return all, err
		}
		all.took, all.bytes = all.took+a.took, all.bytes+a.bytes
	}
	return all, nil
}

// weigh measures how long the console takes to start and what memory it has after it was used, against another
// function in the same image.
func (b *bench) weigh(ctx context.Context, p *shop.Process, v *visitor) error {
	image := filepath.Join(b.dir, "function")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", image,
		"github.com/ebb-dev/ebb/cmd/function")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the function: %w: %s", err, out)
	}
	keys, err := publicKeys(filepath.Join(p.Data, "keys.json"))
	if err != nil {
		return err
	}
	kinds := map[string][]string{
		"console": {"EBB_CONSOLE_API=" + p.URL()},
		"flags":   {"EBB_STORE=sqlite:" + filepath.Join(b.dir, "other"), "K_SINK=http://127.0.0.1:1"},
	}
	starts := map[string][]time.Duration{}
	for range 7 {
		for name, env := range kinds {
			one, took, err := startOne(ctx, image, name, keys, env)
			if err != nil {
				return err
			}
			one.stop()
			starts[name] = append(starts[name], took)
		}
	}
	own, other := median(starts["console"]), median(starts["flags"])
	b.add("cold start of the console", fmt.Sprintf("%s, %.2f × that of flags", ms(own), float64(own)/float64(other)),
		"≤ 1.1 ×", "exec to ready, median of 7, in turns")
	one, _, err := startOne(ctx, image, "console", keys, kinds["console"])
	if err != nil {
		return err
	}
	defer one.stop()
	direct := &visitor{base: one.address, token: v.token, client: v.client}
	for range 20 {
		for _, path := range []string{"/sagas", "/dead-letters", "/events", "/map", "/functions", "/configuration"} {
			if _, err := direct.get(ctx, "/console"+path); err != nil {
				return err
			}
		}
	}
	b.add("memory of the console", fmt.Sprintf("%.1f MB", float64(memory(one.cmd.Process.Pid))/(1<<20)), "≤ 30 MB",
		fmt.Sprintf("resident set of a process of its own after 120 pages, with %d dead letters", b.letters))
	return nil
}

// publicKeys returns the public half of a file of signing keys.
func publicKeys(path string) (string, error) {
	private, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	ring, err := auth.ParseKeyRing(private)
	if err != nil {
		return "", err
	}
	public, err := json.Marshal(ring.Public())
	return string(public), err
}

// single is a process of one function.
type single struct {
	cmd     *exec.Cmd
	address string
}

// startOne starts one function and returns how long it took until it was ready.
func startOne(ctx context.Context, image, name, keys string, env []string) (s single, took time.Duration, err error) {
	at, err := shop.FreeAddress()
	if err != nil {
		return s, 0, err
	}
	port := at[strings.LastIndexByte(at, ':')+1:]
	var out bytes.Buffer
	s = single{exec.CommandContext(ctx, image), "http://" + at}
	s.cmd.Env = append(os.Environ(), append(env, "FUNCTION="+name, "PORT="+port, "EBB_VERIFICATION_KEYS="+keys,
		"EBB_LOG_LEVEL=error")...)
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return s, 0, err
	}
	for time.Since(begin) < 20*time.Second {
		r, err := http.Get(s.address + "/health/readiness")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return s, time.Since(begin), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	s.stop()
	return s, 0, errors.New(name + " does not become ready: " + out.String())
}

func (s single) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}
