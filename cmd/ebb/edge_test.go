package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends text and then a body of zeros to the system, and returns what it answers.
func (r *running) raw(head string, body int) (status int, answer string, err error) {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second)) // less than the 30 s that a body may take
	if _, err := io.WriteString(c, head); err != nil {
		return 0, "", err
	}
	if n, err := c.Write(make([]byte, body)); err != nil {
		return 0, "", fmt.Errorf("sending stopped after %d bytes: %w", n, err)
	}
	w, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(w.Body)
	return w.StatusCode, string(text), err
}

// A refusal reaches clients that send everything first, and those that send nothing before they are told to.
func TestRefusalsAreRead(t *testing.T) {
	r := startDev(t, t.TempDir())
	for name, c := range map[string]struct {
		line, header string
		status, body int
	}{
		"too large":          {"POST /api/users", "Connection: close", 413, 8 << 20},
		"too large, kept":    {"POST /api/users", "Connection: keep-alive", 413, 8 << 20},
		"no token":           {"POST /api/orders", "Connection: close", 401, 8 << 20},
		"no token, waiting":  {"POST /api/orders", "Expect: 100-continue", 401, 0},
		"no path, waiting":   {"POST /nothing", "Expect: 100-continue", 404, 0},
		"no method, waiting": {"PUT /api/users", "Expect: 100-continue", 405, 0},
		"too large, waiting": {"POST /api/users", "Expect: 100-continue", 413, 0},
	} {
		length := max(c.body, 1000)
		if c.status == 413 {
			length = 8 << 20
		}
		head := fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
			c.line, strings.TrimPrefix(r.url, "http://"), c.header, length)
		status, answer, err := r.raw(head, c.body)
		if err != nil || status != c.status || !strings.HasSuffix(answer, "}") {
			t.Errorf("%s: got %d %q, %v, want %d", name, status, answer, err, c.status)
		}
	}
	r.stop()
}

// The system on loopback refuses requests of web pages: those under another host name that resolves to loopback, and
// those from another site.
func TestWebPagesAreRefused(t *testing.T) {
	r := startDev(t, t.TempDir())
	for name, c := range map[string]struct {
		method, path, host string
		header             [2]string
		want               int
	}{
		"metrics":                {"GET", "/metrics", "", [2]string{}, 200},
		"metrics, rebound":       {"GET", "/metrics", "evil.example", [2]string{}, 421},
		"an operation, rebound":  {"GET", "/api/products", "evil.example:8080", [2]string{}, 421},
		"a page's form":          {"POST", "/api/users", "", [2]string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a body without a type":  {"POST", "/api/users", "", [2]string{}, 415},
		"a body of another type": {"POST", "/api/users", "", [2]string{"Content-Type", "text/plain"}, 415},
	} {
		q, err := http.NewRequest(c.method, r.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.method == "POST" {
			q.Body, q.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		}
		if q.Host = c.host; c.header[0] != "" {
			q.Header.Set(c.header[0], c.header[1])
		}
		w, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, _ := io.ReadAll(w.Body)
		w.Body.Close()
		problem := w.Header.Get("Content-Type") == "application/problem+json"
		if w.StatusCode != c.want || problem != (c.want >= 400) {
			t.Errorf("%s: got %d %.100s, want %d", name, w.StatusCode, text, c.want)
		}
	}
	r.stop()
}
