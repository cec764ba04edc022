//go:build unix

package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
)

// BenchmarkWarmRequest measures a request through a gateway to a function, both of this process, and by mutual TLS,
// with TLS to the gateway too. The processor time counts where others use the machine.
func BenchmarkWarmRequest(b *testing.B) {
	for _, secure := range []string{"false", "true"} {
		b.Run("tls="+secure, func(b *testing.B) {
			dir := b.TempDir()
			_, keys := authtest.Keys(b)
			agent := httptest.NewServer(&consultest.Agent{})
			b.Cleanup(agent.Close)
			vars := map[string]string{
				"EBB_DATA": dir, "EBB_TLS": secure, "EBB_DISCOVERY": "consul://" + strings.TrimPrefix(agent.URL, "http://"),
				"EBB_VERIFICATION_KEYS": keys, "EBB_STORE": "memory:", "K_SINK": "http://127.0.0.1:1", "EBB_ACCESS_LOG": "off",
			}
			start(b, dir, vars, `inventory listens on (\S+)`, "serve", "inventory", "--addr", "127.0.0.1:0")
			gateway := start(b, dir, vars, `gateway listens on (\S+)`, "serve", "gateway", "--addr", "127.0.0.1:0")
			client := &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is about the time
			}}
			get := func() int {
				answer, err := client.Get(gateway + "/api/stock/none")
				if err != nil {
					b.Fatal(err)
				}
				defer answer.Body.Close()
				_, _ = io.Copy(io.Discard, answer.Body)
				return answer.StatusCode
			}
			for until := time.Now().Add(time.Minute); get() != http.StatusNotFound; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(until) {
					b.Fatal("it is not ready")
				}
			}
			before := processorTime(b)
			n := 0
			for b.Loop() {
				get()
				n++
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
