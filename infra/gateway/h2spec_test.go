package gateway_test

import (
	"crypto/tls"
	"encoding/xml"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/testcert"
)

var h2specPath = flag.String("h2spec", "", "the h2spec command, with which TestH2spec checks HTTP/2")

// The gateway fails the cases of h2spec that a bare server of Go fails, and no others, over TLS and without it.
func TestH2spec(t *testing.T) {
	if *h2specPath == "" {
		t.Skip("make h2spec runs this test with the h2spec command")
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}
	f := newFixture(t, with("a", answer,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public},
		function.Operation{Method: "POST", Path: "/api/a", Access: function.Public, MaxBody: 1 << 20}))
	for _, secure := range []bool{true, false} {
		name := "without TLS"
		if secure {
			name = "over TLS"
		}
		t.Run(name, func(t *testing.T) {
			ours := func(l net.Listener) net.Listener { return httpserver.Listener(l) }
			gateway := h2spec(t, httpserver.New(f.gateway), ours, secure)
			plain := func(l net.Listener) net.Listener { return l }
			bare := h2spec(t, &http.Server{Handler: http.HandlerFunc(answer)}, plain, secure)
			t.Logf("the gateway: %d of %d cases failed %q", len(gateway.failed), gateway.cases, gateway.failed)
			t.Logf("a bare server: %d of %d cases failed %q", len(bare.failed), bare.cases, bare.failed)
			if gateway.cases < 140 || gateway.cases != bare.cases || !slices.Equal(gateway.failed, bare.failed) {
				t.Error("the failed cases are not the same")
			}
		})
	}
}

// h2specResult is what h2spec reports about a server.
type h2specResult struct {
	cases  int
	failed []string
}

// h2spec serves with HTTP/2 while the h2spec command checks it.
func h2spec(t *testing.T, s *http.Server, wrap func(net.Listener) net.Listener, secure bool) (r h2specResult) {
	t.Helper()
	cert, key, err := testcert.Pair("localhost", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Protocols = &http.Protocols{}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	report := filepath.Join(t.TempDir(), "report.xml")
	args := []string{"-h", "127.0.0.1", "-p", port(l), "-P", "/api/a", "-S", "-j", report}
	if secure {
		go func() { _ = s.ServeTLS(wrap(l), "", "") }()
		args = append(args, "-t", "-k")
	} else {
		go func() { _ = s.Serve(wrap(l)) }()
	}
	defer func() { _ = s.Close() }()
	out, _ := exec.CommandContext(t.Context(), *h2specPath, args...).CombinedOutput() // it fails when a case does
	document, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(document, &suites); err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites.Suites {
		for _, c := range suite.Cases {
			r.cases++
			if c.Failure != nil || c.Error != nil {
				r.failed = append(r.failed, suite.Package+": "+strings.TrimSpace(c.Name))
			}
		}
	}
	slices.Sort(r.failed)
	return r
}

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}
