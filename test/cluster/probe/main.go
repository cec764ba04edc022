// Command probe is a bare net/http service, to compare cold starts with. On /fetch it makes a request itself, so that a
// test can check which pods reach which addresses.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// answer is the result of a request.
type answer struct {
	Status  int     `json:"status"` // 0: no answer
	Body    string  `json:"body,omitempty"`
	Error   string  `json:"error,omitempty"`
	Timeout bool    `json:"timeout,omitempty"`
	Millis  float64 `json:"millis"`
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") })
	http.HandleFunc("/fetch", fetch)
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	if err := http.ListenAndServe(":"+port, nil); err != nil { // it runs as long as its pod
		panic(err)
	}
}

// fetch makes the request of the query parameters url, method, body, and header as JSON. With dial it only connects.
func fetch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := time.ParseDuration(q.Get("timeout"))
	if err != nil {
		limit = 3 * time.Second
	}
	began := time.Now()
	a := ask(q.Get("dial"), q.Get("method"), q.Get("url"), q.Get("body"), q.Get("header"), limit)
	a.Millis = float64(time.Since(began).Microseconds()) / 1000
	_ = json.NewEncoder(w).Encode(a)
}

func ask(dial, method, url, body, header string, limit time.Duration) answer {
	if dial != "" {
		c, err := net.DialTimeout("tcp", dial, limit)
		if err != nil {
			return failed(err)
		}
		c.Close()
		return answer{Status: http.StatusOK}
	}
	r, err := http.NewRequest(method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return failed(err)
	}
	var h map[string]string
	if header != "" {
		if err := json.Unmarshal([]byte(header), &h); err != nil {
			return failed(err)
		}
	}
	for name, value := range h {
		r.Header.Set(name, value)
	}
	// Use a new connection each time, because policies do not close open ones.
	c := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	w, err := c.Do(r)
	if err != nil {
		return failed(err)
	}
	defer w.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(w.Body, 4096))
	return answer{Status: w.StatusCode, Body: string(text)}
}

func failed(err error) answer {
	var timeout net.Error
	return answer{Error: err.Error(), Timeout: errors.As(err, &timeout) && timeout.Timeout()}
}
