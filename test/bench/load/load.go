// Package load implements the benches' load generator for HTTP. It writes requests to sockets and skips over the
// responses, so that it uses little of the machine.
package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is how long a response may take after the end of the load.
const patience = 15 * time.Second

// Same returns a function that always returns the request.
func Same(request string) func() []byte {
	b := []byte(request)
	return func() []byte { return b }
}

// Hammer sends one request after the other on each connection for the duration d, and returns the latencies, sorted.
// next returns a request with its head and body; it is called concurrently. Any response but 2xx ends the load.
func Hammer(ctx context.Context, addr string, connections int, d time.Duration, next func() []byte) ([]time.Duration,
	error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	all := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			c := client{addr: addr}
			defer c.close()
			if all[i], errs[i] = c.repeat(ctx, d, next); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	if err := first(errs); err != nil {
		return nil, err
	}
	latencies := slices.Concat(all...)
	slices.Sort(latencies)
	return latencies, nil
}

// Pace sends requests at a rate for the duration d, each on a connection that is free, and returns the latencies of the
// responses of each status, sorted. A latency counts from the time at which the request was due.
func Pace(
	ctx context.Context, addr string, connections int, rate float64, d time.Duration, next func() []byte,
) (map[int][]time.Duration, error) {
	due, begin := make(chan time.Time, int(rate*d.Seconds())+1), time.Now()
	took := map[int][]time.Duration{}
	var mu sync.Mutex
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			c := client{addr: addr}
			defer c.close()
			for at := range due {
				status, err := c.once(next(), begin.Add(d+patience))
				if err != nil {
					errs[i] = err
					return
				}
				after := time.Since(at)
				mu.Lock()
				took[status] = append(took[status], after)
				mu.Unlock()
			}
		})
	}
	for n := range int(rate * d.Seconds()) {
		at := begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		time.Sleep(time.Until(at))
		if ctx.Err() != nil {
			break
		}
		due <- at
	}
	close(due)
	wg.Wait()
	for _, all := range took {
		slices.Sort(all)
	}
	return took, errors.Join(first(errs), ctx.Err())
}

// once sends a request and returns the status of its response.
func (c *client) once(request []byte, limit time.Time) (status int, err error) {
	if err := c.send(request, limit); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, err
	}
	if _, err = io.Copy(io.Discard, answer.Body); answer.Close {
		c.close()
	}
	return answer.StatusCode, err
}

// Quantile returns the q-quantile of sorted values, or 0 if there are none.
func Quantile[T time.Duration | float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type client struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// send writes a request, to a new connection with the limit if there is none.
func (c *client) send(request []byte, limit time.Time) error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, patience)
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(limit)
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_, err := c.conn.Write(request)
	return err
}

func (c *client) repeat(ctx context.Context, d time.Duration, next func() []byte) ([]time.Duration, error) {
	var latencies []time.Duration
	limit := time.Now().Add(d + patience)
	for ctx.Err() == nil {
		request, begin := next(), time.Now()
		if err := c.send(request, limit); err != nil {
			return nil, err
		}
		last, err := skipAnswer(c.in)
		if err != nil {
			return nil, err
		}
		if last {
			c.close()
		}
		latencies = append(latencies, time.Since(begin))
	}
	return latencies, nil
}

// skipAnswer reads one response, and reports whether the server closes the connection after it.
func skipAnswer(in *bufio.Reader) (last bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	status := string(bytes.TrimSpace(line))
	good := strings.HasPrefix(status, "HTTP/1.1 2")
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return false, err
			}
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		}
	}
	if !good {
		body := make([]byte, min(max(length, 0), 300))
		n, _ := io.ReadFull(in, body)
		return false, fmt.Errorf("unexpected response %s: %s", status, body[:n])
	}
	if length < 0 {
		return false, errors.New("missing Content-Length in the response")
	}
	_, err = in.Discard(length)
	return last, err
}
