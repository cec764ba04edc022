package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

const readers = 64

func (b *bench) reads(ctx context.Context) error {
	p, _, err := b.system(ctx, "reads")
	if err != nil {
		return err
	}
	client := shop.NewClient(p.URL(), 4)
	customer, err := client.Register(ctx, "reader")
	if err != nil {
		return err
	}
	request := fmt.Sprintf("GET /api/users/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", customer.ID, p.Addr, customer.Token)
	if _, err := hammer(ctx, p.Addr, request, 2*time.Second); err != nil {
		return err
	}
	d := b.duration / 2
	latencies, err := hammer(ctx, p.Addr, request, d)
	if err != nil {
		return err
	}
	b.add("GET /api/users/{id}", fmt.Sprintf("%.0f/s, p50 %s, p99 %s", float64(len(latencies))/d.Seconds(), ms(quantile(latencies, 0.5)), ms(quantile(latencies, 0.99))),
		"20,000/s, p99 ≤ 10 ms", fmt.Sprintf("%d connections for %s, through gateway and token check", readers, d))
	return p.Stop(ctx)
}

// hammer sends the same request over every connection, again and again, with as little work
// of its own as it can.
func hammer(ctx context.Context, addr, request string, d time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	all := make([][]time.Duration, readers)
	errs := make([]error, readers)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() { all[i], errs[i] = repeat(ctx, addr, []byte(request)) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	latencies := slices.Concat(all...)
	slices.Sort(latencies)
	return latencies, nil
}

func repeat(ctx context.Context, addr string, request []byte) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var latencies []time.Duration
	for ctx.Err() == nil {
		begin := time.Now()
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := skipAnswer(in); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(begin))
	}
	return latencies, nil
}

func skipAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answered %s", strings.TrimSpace(string(line)))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("the answer has no Content-Length")
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return err
}
