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

// errorPage answers every request at a listener with what is wrong, until it is closed.
type errorPage struct{ server *http.Server }

// serveErrorPage serves on a copy of the listener, so that closing the page leaves the listener open.
func serveErrorPage(listener net.Listener, hosts []string, title, text string) (*errorPage, error) {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be copied", listener)
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
	go func() { _ = p.server.Serve(httpserver.Listener(own)) }() // it ends when it is closed
	return p, nil
}

// close ends the page. Answers under way are given a second.
func (p *errorPage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		_ = p.server.Close()
	}
}

// failing answers 503: a page to a browser, which loads it again every second, and a problem document (RFC 9457) to
// all else.
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
