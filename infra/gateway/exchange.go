package gateway

import (
	"bufio"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/internal/committedheader"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Handler answers a request. It may be called concurrently, with another Exchange each time.
type Handler func(x *Exchange)

// Middleware is a policy: it returns a Handler that does its part of the work before or after it calls next, or answers
// the request itself and does not call next. It is called once, when the gateway is made.
type Middleware func(next Handler) Handler

// chain returns the handler that runs the policies in order, the first one outermost, and then the handler.
func chain(h Handler, policies ...Middleware) Handler {
	for i := len(policies) - 1; i >= 0; i-- {
		h = policies[i](h)
	}
	return h
}

// Exchange is a request on its way through the chain, with what the policies have found out about it. One goroutine at
// a time uses it.
type Exchange struct {
	// Writer takes the answer. A policy may set a wrapper, which must have an Unwrap method for
	// http.ResponseController.
	Writer http.ResponseWriter

	// Request is the request as it came. Policies may change its header; for other changes see Own.
	Request *http.Request

	// Route is the operation that the request asks for; nil while it is not known, and where none is declared.
	Route *Route

	// Caller is who sent the request, as its credentials say. It is anonymous until they are checked, on routes that
	// check none, and for a request without.
	Caller auth.Principal

	asked    *http.Request // by the caller, whose leaving cancels its context; nil: Request
	id       [1]string     // of the request
	table    *table
	address  netip.Addr // of the client, where the environment names the proxies or the header fields are gone
	path     *pathItem  // that the request's path matches; nil: none
	version  string     // that the request asks for, where the environment has versions
	own      bool       // Request is a copy
	shed     bool       // the function was not asked, because it has too much to do
	failed   bool       // the call has ended with a failure of the server
	hurried  bool       // the call took longer than its caller gave it, which says nothing about the server
	sent     int        // how often the request was sent to instances of other processes
	response response
}

// Own returns the request, made a copy first if it is still the server's. Only the copy's method, URL and body may be
// changed: the server looks at its own request when it writes the answer, and would wait for a body that was replaced
// there.
func (x *Exchange) Own() *http.Request {
	if !x.own {
		copied := *x.Request
		x.Request, x.own = &copied, true
	}
	return x.Request
}

// client returns the address of the client; the zero Addr where none is known.
func (x *Exchange) client() netip.Addr {
	if len(x.table.proxies) > 0 || x.address.IsValid() {
		return x.address
	}
	return httprequest.ClientAddr(x.Request)
}

// Refuse answers with the problem document of err, or in the protocol of a call.
func (x *Exchange) Refuse(err error) {
	if !x.refuseCall(err) {
		problem.Write(x.Writer, x.Request, err)
	}
}

// Status returns the status of the answer so far; 0 while there is none.
func (x *Exchange) Status() int { return x.response.status }

// response is the server's writer. It notes the status of the answer.
type response struct {
	http.ResponseWriter
	status int       // 0: nothing was written yet
	bytes  int64     // of the body
	stream time.Time // when the header of a stream of events was written; zero: it is none
}

// note notes the status of the answer, and when it begins if it is a stream of events: how long one takes says nothing
// about how fast its function is.
func (w *response) note(status int) {
	w.status = status
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		w.stream = time.Now()
	}
}

// WriteHeader implements http.ResponseWriter. Clients do not see which refusals have changed data.
func (w *response) WriteHeader(status int) {
	delete(w.Header(), committedheader.Name)
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.note(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.note(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher, for answers that are sent in pieces.
func (w *response) Flush() {
	if w.status == 0 {
		w.note(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker, for a connection that switches to another protocol: its answer does not pass here.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return c, rw, err
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
