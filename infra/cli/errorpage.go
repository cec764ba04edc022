package cli

import (
	"context"
	"fmt"
	"html"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/hostcheck"
	"github.com/ebb-dev/ebb/infra/problem"
)

// errorPage answers every request at a listener with an error, until it is closed.
type errorPage struct{ server *http.Server }

// serveErrorPage serves on a copy of the listener, so that closing the page leaves the listener open.
func serveErrorPage(listener net.Listener, hosts []string, title, text string) (*errorPage, error) {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("cannot copy a listener of type %T", listener)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	own, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	checked := hostcheck.Handler(failing(title, text), hostcheck.Config{
		Loopback: onLoopback(listener.Addr()), Hosts: hosts, Refuse: problem.Write,
	})
	p := &errorPage{httpserver.New(checked)}
	go func() { _ = p.server.Serve(httpserver.Listener(own)) }()
	return p, nil
}

// close ends the page. Running requests have one second to finish.
func (p *errorPage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		_ = p.server.Close()
	}
}

// failing returns a handler that answers 503: with a page for a browser, which reloads it every second, and with a
// problem document (RFC 9457) for other clients.
func failing(title, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Retry-After", "1")
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, errorHTML, html.EscapeString(title), html.EscapeString(title), html.EscapeString(text))
			return
		}
		p := problem.Problem{Title: title, Status: http.StatusServiceUnavailable, Detail: text}
		p.Write(w, r)
	})
}

const errorHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="1">
<title>%s</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem}pre{padding:1rem;background:#f3f3f3;overflow:auto}</style>
<h1>%s</h1>
<pre>%s</pre>
</html>
`
