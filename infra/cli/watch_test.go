package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/pflag"
)

// watchedSource is a program that serves a word on the inherited listener until its standard input is closed.
const watchedSource = `package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"example.com/watched/functions/word"
)

func main() {
	if word.Word == "crash" {
		fmt.Fprintln(os.Stderr, "panic: out of tea")
		os.Exit(7)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word.Word) })))
}
`

// get returns the status and the body of a response. A refused connection fails the test.
func get(t *testing.T, address, accept string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		if strings.Contains(err.Error(), "refused") {
			t.Fatal(err)
		}
		return 0, "" // the process ended while it answered
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}

// A saved change is built and started. While the program does not compile, or after it exits, the address shows the
// error. It never refuses a connection, and an unchanged binary is not restarted.
func TestWatch(t *testing.T) {
	dir := tree(t, map[string]string{
		"go.mod": "module example.com/watched\n\ngo 1.26\n", "cmd/watched/main.go": watchedSource,
		"functions/word/word.go": "package word\n\nconst Word = \"one\"\n",
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	data := filepath.Join(dir, ".data")
	changes, err := watchFiles(ctx, dir, data)
	if err != nil {
		t.Fatal(err)
	}
	p, out, errs := process(dir, nil)
	p.Name = "ebb"
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	m := goModule{dir: dir, path: "example.com/watched", command: "./cmd/watched"}
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	starts := 0
	var builds atomic.Int32
	w := &watcher{
		app:      a,
		listener: listener,
		changes:  changes,
		name:     "watched",
		next:     filepath.Join(data, "next"),
		current:  filepath.Join(data, "current"),
		build: func(ctx context.Context, into string) (string, error) {
			defer builds.Add(1)
			return m.build(ctx, into, m.fast()...)
		},
		start: func(binary string, args []string, l net.Listener) (*child, error) {
			starts++
			return a.startChild(binary, args, l)
		},
	}
	ended := make(chan error)
	go func() { ended <- w.run(ctx) }()
	address := listener.Addr().String()
	save := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	word := func(w string) { save("functions/word/word.go", fmt.Sprintf("package word\n\nconst Word = %q\n", w)) }
	sees := func(status int, accept, want string) {
		t.Helper()
		until(t, func() bool {
			got, body := get(t, address, accept)
			return got == status && strings.Contains(body, want)
		})
	}
	sees(200, "*/*", "one")
	word("two")
	sees(200, "*/*", "two")
	save("functions/word/word.go", "package word\n\nconst Word = <three>\n")
	sees(503, "*/*", `"title":"watched does not compile"`)
	sees(503, "text/html", "word.go:3:14: syntax error: unexpected &lt;")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.Close = "evil.example", true // the error page is refused under another host name
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name: got %v, %v", resp, err)
	}
	word("three")
	sees(200, "*/*", "three")
	word("crash")
	sees(503, "*/*", "panic: out of tea")
	word("four")
	sees(200, "*/*", "four")
	before := builds.Load()
	save("functions/word/word.go", "package word\n\nconst Word = \"four\"\n\n// The end.\n") // the same program
	until(t, func() bool { return builds.Load() > before })
	word("five")
	sees(200, "*/*", "five")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if starts != 6 { // one, two, three, crash, four, five
		t.Errorf("started %d times: %s%s", starts, out, errs)
	}
	if !strings.Contains(errs.String(), "watched does not compile\n") ||
		!strings.Contains(errs.String(), "word.go:3:14") {
		t.Errorf("the terminal shows %s", errs)
	}
}

// The child of dev --watch gets each flag that was given, but not the one that makes it a child.
func TestFlagsOfTheChild(t *testing.T) {
	values := map[string]string{
		"addr": "127.0.0.1:9000", "config": "shop.yaml", "data": "d", "hosts": "a.example,b.example", "idle": "5s",
		"log-retention": "-1s", "tls": "true",
	}
	d := devFlags{given: map[string]string{}}
	f := pflag.NewFlagSet("dev", pflag.ContinueOnError)
	d.define(&app{system: empty()}, f)
	var want []string
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Name == "watch" {
			return
		}
		if values[flag.Name] == "" {
			t.Errorf("no value to try --%s with", flag.Name)
		}
		want = append(want, "--"+flag.Name+"="+values[flag.Name])
	})
	if err := f.Parse(append(slices.Clone(want), "--watch")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.flags, want) {
		t.Errorf("got  %q\nwant %q", d.flags, want)
	}
}

func TestWhichFilesCount(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.go": "", "x/b.go": "", ".git/HEAD": "", "vendor/v/v.go": "", "data/db": "", "x/testdata/t.json": "",
	})
	changes, err := watchFiles(t.Context(), dir, filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	counts := func(name string) bool {
		f := fileWatch{root: dir, except: filepath.Join(dir, "data")}
		return !ignores(name) && !f.ignoresDir(filepath.Dir(filepath.Join(dir, name)))
	}
	for name, want := range map[string]bool{
		"a.go": true, "x/page.html": true, "a_test.go": false, "a.go~": false, "x/.b.go.swp": false, "data/db": false,
		".git/HEAD": false, "x/testdata/t.json": false, "dev.log": false,
	} {
		if got := counts(name); got != want {
			t.Errorf("%s counts: %t, want %t", name, got, want)
		}
	}
	write("a.go")
	<-changes
	write("y/z/c.go") // in a new folder
	<-changes
	write("y/z/c.go")
	<-changes
}
