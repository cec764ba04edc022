package gateway

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// adaptive finds out how many requests a function answers at once without getting slower.
//
// It compares the mean time of requests that begin while few others run, up to half of the limit, with that of the
// others. It takes means because some requests take longer than others without an overload. Where requests that begin
// beside many take more than half as long again, they wait for each other: the limit is cut at once, in proportion to
// that difference. Otherwise the limit grows little by little. While a load lasts no request begins beside few others.
// So from time to time, for a few requests, only half of the limit is admitted: a probe.
//
// A request is under way until its answer begins, and not while the gateway waits for more of its body: how slowly a
// client sends or takes says nothing about the function, and must leave no less room for others.
type adaptive struct {
	mu      sync.Mutex
	limit   float64
	running int
	changed time.Time // of the limit; a request that began before says nothing about it

	few     float64 // mean time of requests that began while few ran, in nanoseconds
	fewSeen int

	many   crowd // requests that began while more ran, since the limit was changed
	filled bool  // as many as may have run since then

	probed  time.Time // when the last probe began or ended, or the first limit was judged
	pause   time.Duration
	probing int // how many requests are left of a probe
}

// crowd sums up requests that ran beside others.
type crowd struct {
	seen, running int
	took          float64 // nanoseconds
}

// The least, the first and the greatest adaptive limit.
const (
	adaptiveLeast, adaptiveFirst, adaptiveMost = 2, 20, 1000
)

const (
	adaptiveSlower  = 1.5 // how much longer a request may take at the limit
	adaptiveSamples = 10  // requests after which the limit is changed, and of a probe
	adaptiveMemory  = 200 // requests that the mean of those that began while few ran is made of

	firstProbe, longestPauseOfProbes = time.Second, 30 * time.Second
)

func newAdaptive() *adaptive { return &adaptive{limit: adaptiveFirst, pause: firstProbe} }

// admitted is a request that the limit has room for. Its methods may be called concurrently.
type admitted struct {
	a       *adaptive
	began   time.Time
	running int // with it
	few     bool

	ended  bool          // its fields are guarded by a.mu from here on
	waits  time.Time     // since when it waits for its client; zero: it does not
	waited time.Duration // for its client
}

// wait notes that the request waits for its client.
func (r *admitted) wait(now time.Time) {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	if !r.ended {
		r.a.running--
		r.waits = now
	}
}

// resume notes that the request goes on. It does so also where the limit has no room left.
func (r *admitted) resume(now time.Time) {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	if !r.ended {
		r.a.running++
		r.waited, r.waits = r.waited+now.Sub(r.waits), time.Time{}
	}
}

// admit counts a request that begins. It returns nil if the limit has no room for it.
func (a *adaptive) admit(now time.Time) *admitted {
	a.mu.Lock()
	defer a.mu.Unlock()
	most, few := max(int(a.limit), 1), max(int(a.limit/2), 1)
	if a.running >= most || a.probing > 0 && a.running >= few {
		return nil
	}
	a.running++
	a.filled = a.filled || a.running == most
	return &admitted{a: a, began: now, running: a.running, few: a.running <= few}
}

// end notes how long a request took; counts is false for one that says nothing. A second call does nothing.
func (r *admitted) end(now time.Time, counts bool) {
	a := r.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	if r.waits.IsZero() {
		a.running--
	} else {
		r.waited += now.Sub(r.waits)
	}
	took := float64(now.Sub(r.began) - r.waited)
	switch {
	case !counts:
	case r.few:
		a.fewSeen = min(a.fewSeen+1, adaptiveMemory)
		a.few += (took - a.few) / float64(a.fewSeen)
		if a.probing > 0 && r.began.After(a.probed) {
			if a.probing--; a.probing == 0 {
				a.probed = now
				a.change(now, a.limit)
			}
		}
	case a.probing == 0 && r.began.After(a.changed):
		a.many.seen, a.many.running, a.many.took = a.many.seen+1, a.many.running+r.running, a.many.took+took
		a.judge(now)
	}
}

// judge changes the limit when enough requests have run beside others.
func (a *adaptive) judge(now time.Time) {
	seen := float64(a.many.seen)
	slower := a.many.took / seen / a.few
	if a.many.seen < adaptiveSamples && (a.many.seen < adaptiveSamples/2 || slower < 2*adaptiveSlower) {
		return
	}
	switch limit := a.limit; {
	case a.fewSeen < adaptiveSamples/2:
		a.change(now, limit)
	case slower > adaptiveSlower:
		fits := float64(a.many.running) / seen * adaptiveSlower / slower
		a.change(now, max(min(fits, limit), limit/5, adaptiveLeast))
	case a.filled:
		a.change(now, min(limit+max(limit/20, 1), adaptiveMost))
	default:
		a.change(now, limit)
	}
	if a.probed.IsZero() {
		a.probed = now
	}
	if now.Sub(a.probed) >= a.pause {
		a.probed, a.probing = now, adaptiveSamples
		a.pause = min(2*a.pause, longestPauseOfProbes)
	}
}

// change sets the limit. What was seen at the one before does not count any more.
func (a *adaptive) change(now time.Time, limit float64) {
	a.limit, a.changed, a.many, a.filled = limit, now, crowd{}, a.running >= int(limit)
}

// admit has the limit decide on a request. It returns what must be called when the request was served, with whether it
// was without a panic; nil if there is no room.
func (x *Exchange) admit(a *adaptive) func(done bool) {
	r := a.admit(time.Now())
	if r == nil {
		return nil
	}
	if !bodyless(x.Request) {
		x.Own().Body = &admittedBody{ReadCloser: x.Request.Body, r: r}
	}
	before := x.Writer
	x.Writer = &admittedWriter{ResponseWriter: before, r: r, x: x}
	return func(done bool) {
		x.Writer = before
		r.end(time.Now(), done && !failedAnswer(x) && !gone(x))
	}
}

// admittedBody is the body of a request, for which the function may wait.
type admittedBody struct {
	io.ReadCloser
	r *admitted
}

// Read implements io.Reader.
func (b *admittedBody) Read(p []byte) (int, error) {
	b.r.wait(time.Now())
	defer func() { b.r.resume(time.Now()) }()
	return b.ReadCloser.Read(p)
}

// admittedWriter is a writer that notes when an answer begins.
type admittedWriter struct {
	http.ResponseWriter
	r     *admitted
	x     *Exchange
	wrote bool
}

func (w *admittedWriter) begin(status int) {
	if !w.wrote && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.wrote = true
		w.r.end(time.Now(), !failedStatus(status) && !gone(w.x))
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *admittedWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *admittedWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *admittedWriter) Flush() {
	w.begin(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *admittedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
