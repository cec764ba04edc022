// Command matrix runs the suite of brokers against every driver, the suite of hosts against every host to which a
// platform delivers, and the conformance suite against a stand-alone broker of this tree, and writes which sentence
// holds where into docs/conformance.md:
//
//	make matrix
//
// Nothing in the tables is typed by hand. A driver whose server this machine lacks is "–": its tests say what to start.
// With -knative FILE, the report of `ebb conformance --triggers knative --json` on a cluster is a column as well.
//
// Each column is a part that ends within ten minutes, and says when it begins and ends. The document is written after
// each part, so that what has run is kept. With -only TITLE one part runs alone, and the other columns stay as the
// document has them; -list prints the titles:
//
//	go run ./test/matrix -only Redis
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/host/hosttest"
)

// suite is a column: what a test of which package runs the suite, and what it leaves to the platform.
type suite struct {
	title, pkg, test string
	left             []left
}

// left is a sentence that the platform holds and not what is ours, and why.
type left struct{ sentence, why string }

// drivers are the columns of the first table.
var drivers = []suite{
	{"memory", "./infra/broker/memory", "TestBroker", nil},
	{"NATS embedded", "./infra/broker/nats", "TestBroker", nil},
	{"NATS cluster", "./infra/broker/nats", "TestBrokerOnCluster", nil},
	{"Kafka (kfake)", "./infra/broker/kafka", "TestBroker", nil},
	{"RabbitMQ", "./infra/broker/rabbitmq", "TestBroker", nil},
	{"Redis", "./infra/broker/redis", "TestBroker", nil},
	{"SNS and SQS (kumo)", "./infra/broker/sqs", "TestBroker", nil},
	{"Pub/Sub (fake)", "./infra/broker/pubsub", "TestBroker", nil},
}

// hosts are the columns of the second table, by the suite of hosts.
var hosts = []suite{
	{"Knative", "./infra/host/knative", "TestHost", []left{
		{hosttest.Filters, "a Trigger's filter applies them before the host"},
		{hosttest.Order, "one event comes at a time, in the order that the broker behind Knative keeps"},
	}},
	{"Cloud Run (push)", "./infra/host/knative", "TestHostPush", []left{
		{hosttest.Order, "Pub/Sub pushes one event of a key at a time"},
	}},
	{"Lambda (SQS)", "./infra/host/lambda", "TestHost", nil},
}

// The columns of the third table, by HTTP.
const (
	ebbBroker = "`ebb broker`"
	onKnative = "Knative"
)

const (
	document = "docs/conformance.md"
	begin    = "<!-- written by make matrix -->\n"
	end      = "<!-- end -->\n"

	// suiteTimeout is how long the tests of a part may run. Then go test ends them and prints where they are.
	suiteTimeout = 8 * time.Minute
	// partTimeout is how long a part may take with compiling. Then its processes are killed.
	partTimeout = 10 * time.Minute
)

func main() {
	knative := flag.String("knative", "", "a report of ebb conformance --json on Knative")
	only := flag.String("only", "", "the title of the only part that runs")
	list := flag.Bool("list", false, "print the titles of the parts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *knative, *only, *list)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// part is a column of a table, and what finds its outcomes.
type part struct {
	table int
	title string
	run   func(context.Context) (outcomes, error)
}

// parts returns all parts in their order. A report of a cluster is one when there is one.
func parts(knative string) (all []part) {
	for i, suites := range [][]suite{drivers, hosts} {
		for _, s := range suites {
			all = append(all, part{i, s.title, func(ctx context.Context) (outcomes, error) {
				return runSuite(ctx, s, titles[i].sentences())
			}})
		}
	}
	all = append(all, part{2, ebbBroker, runConformance})
	if knative != "" {
		all = append(all, part{2, onKnative, func(context.Context) (outcomes, error) {
			data, err := os.ReadFile(knative)
			if err != nil {
				return nil, err
			}
			return readReport(data)
		}})
	}
	return all
}

// titles are the tables: the title of the first column, and the sentences.
var titles = [...]struct {
	title     string
	sentences func() []string
}{
	{"sentence", brokertest.Sentences}, {"sentence by host", hosttest.Sentences},
	{"sentence by HTTP", conformanceSentences},
}

func run(ctx context.Context, knative, only string, list bool) error {
	all := parts(knative)
	if list {
		for _, p := range all {
			fmt.Println(p.title)
		}
		return nil
	}
	if only != "" {
		all = slices.DeleteFunc(all, func(p part) bool { return strings.Trim(p.title, "`") != strings.Trim(only, "`") })
		if len(all) == 0 {
			return fmt.Errorf("unknown part %q: see -list", only)
		}
	}
	failed := false
	var errs []error
	for i, p := range all {
		fmt.Fprintf(os.Stderr, "%d of %d: %s\n", i+1, len(all), p.title)
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, partTimeout)
		results, err := p.run(limited)
		cancel()
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		fmt.Fprintf(os.Stderr, "%s: %s (%s)\n", p.title, results, time.Since(began).Round(time.Second))
		if err != nil { // the other parts tell more
			errs = append(errs, fmt.Errorf("%s: %w", p.title, err))
			continue
		}
		failed = failed || results.failed()
		if err := record(p, results); err != nil {
			return err
		}
	}
	if failed {
		errs = append(errs, errors.New("a sentence does not hold; see the tables in "+document))
	}
	return errors.Join(errs...)
}

// outcomes are what became of the sentences of a suite: pass, fail or skip.
type outcomes map[string]string

func (o outcomes) failed() bool { return strings.Contains(o.String(), "fail") }

// String returns how many sentences have which outcome.
func (o outcomes) String() string {
	count := map[string]int{}
	for _, outcome := range o {
		count[outcome]++
	}
	var parts []string
	for _, outcome := range []string{"pass", "fail", "skip"} {
		if count[outcome] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[outcome], outcome))
		}
	}
	return strings.Join(parts, ", ")
}

// worst sets the outcome of a sentence that was tried more than once, such as with one queue and with several.
func (o outcomes) worst(sentence, outcome string) {
	rank := map[string]int{"": 0, "skip": 1, "pass": 2, "fail": 3}
	if rank[outcome] > rank[o[sentence]] {
		o[sentence] = outcome
	}
}

type column struct {
	title   string
	results outcomes
}

// heldBy returns a sentence for each part: what runs for its column, and what it leaves to the platform.
func heldBy() string {
	var b strings.Builder
	for _, s := range slices.Concat(drivers, hosts) {
		fmt.Fprintf(&b, "- %s: `go test %s -run '^%s$'`", s.title, s.pkg, s.test)
		for i, left := range s.left {
			fmt.Fprintf(&b, "%s \"%s\" is not tried, because %s", []string{".", ";"}[min(i, 1)], left.sentence, left.why)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "- %s: `ebb conformance` against it\n", ebbBroker)
	return b.String()
}

// command returns a command that is killed with all that it has started when ctx ends.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second // a server that it leaves behind may hold its output open
	c.Stderr = os.Stderr
	return c
}

// runSuite runs one test, which runs the suite with these sentences. A failure of the test is in the outcomes.
func runSuite(ctx context.Context, s suite, sentences []string) (outcomes, error) {
	c := command(ctx, "go", "test", "-json", "-count", "1", "-timeout", suiteTimeout.String(), "-run", "^"+s.test+"$",
		s.pkg)
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	results, readErr := readTests(out, sentences)
	_, _ = io.Copy(io.Discard, out) // what could not be read
	if err = c.Wait(); ctx.Err() != nil {
		return results, fmt.Errorf("it did not end within %s", partTimeout)
	}
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return results, readErr
	case err != nil && (!errors.As(err, &exit) || !results.failed()):
		return results, fmt.Errorf("%s %s: %w", s.pkg, s.test, err)
	}
	return results, nil
}

// readTests returns the outcomes of the sentences in the output of go test -json, and prints those that fail.
func readTests(r io.Reader, sentences []string) (outcomes, error) {
	names := map[string]string{} // as subtests have them
	for _, s := range sentences {
		names[strings.ReplaceAll(s, " ", "_")] = s
	}
	results := outcomes{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		sentence, ok := names[path.Base(e.Test)]
		if ok && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			results.worst(sentence, e.Action)
		}
		if ok && e.Action == "fail" {
			fmt.Fprintln(os.Stderr, "FAIL", sentence)
		}
	}
	return results, lines.Err()
}

// runConformance runs the conformance suite against a stand-alone broker of this tree.
func runConformance(ctx context.Context) (outcomes, error) {
	dir, err := os.MkdirTemp("", "matrix")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := path.Join(dir, "ebb")
	if err := command(ctx, "go", "build", "-o", program, "./cmd/ebb").Run(); err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	server := command(ctx, program, "broker", "--data", path.Join(dir, "data"), "--addr", "127.0.0.1:0")
	defer stop()
	lines, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer lines.Close()
	server.Stdout, server.Stderr = out, out
	err = server.Start()
	out.Close()
	if err != nil {
		return nil, err
	}
	defer func() {
		stop()
		_ = server.Wait()
	}()
	address, err := addressIn(lines)
	if err != nil {
		return nil, err
	}
	report, err := command(ctx, program, "conformance", address, "--json").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	return readReport(report)
}

// addressIn returns the first URL on loopback that the broker prints.
func addressIn(r io.Reader) (string, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		_, rest, found := strings.Cut(lines.Text(), "http://127.0.0.1:")
		if found {
			port := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
			go io.Copy(io.Discard, r)
			return "http://127.0.0.1:" + port, nil
		}
	}
	return "", errors.New("the broker does not print its address")
}

// readReport returns the outcomes of a report of the conformance suite in JSON.
func readReport(data []byte) (outcomes, error) {
	var report struct {
		Results []conformance.Result `json:"results"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("the report: %w", err)
	}
	if len(report.Results) == 0 {
		return nil, errors.New("the report has no cases")
	}
	results := outcomes{}
	for _, c := range report.Results {
		results.worst(c.Sentence, map[conformance.Outcome]string{
			conformance.Held: "pass", conformance.Failed: "fail", conformance.Skipped: "skip",
		}[c.Outcome])
	}
	return results, nil
}

func conformanceSentences() (out []string) {
	seen := map[string]bool{}
	for _, c := range conformance.Cases() {
		if !seen[c.Sentence] {
			out = append(out, c.Sentence)
		}
		seen[c.Sentence] = true
	}
	return out
}

// table returns a table in Markdown with a row for each sentence.
func table(title string, sentences []string, columns []column) string {
	var b strings.Builder
	b.WriteString("| " + title)
	for _, c := range columns {
		b.WriteString(" | " + c.title)
	}
	b.WriteString(" |\n|" + strings.Repeat(" --- |", len(columns)+1) + "\n")
	for _, s := range sentences {
		b.WriteString("| " + strings.ReplaceAll(s, "|", `\|`))
		for _, c := range columns {
			b.WriteString(" | " + map[string]string{"pass": "yes", "fail": "**no**", "skip": "–", "": "–"}[c.results[s]])
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// record writes the outcomes of a part into the document. The other columns stay, with the sentences of today.
func record(p part, results outcomes) error {
	content, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(content), begin)
	text, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the tables: want %q and %q", document, begin, end)
	}
	return os.WriteFile(document, []byte(before+begin+merge(text, p, results)+end+after), 0o644)
}

// merge returns the tables of a text with the column of a part.
func merge(text string, p part, results outcomes) string {
	old := strings.Split(text, "\n\n")
	var tables []string
	for i, t := range titles {
		var known []column
		if i < len(old) {
			known = columnsOf(old[i])
		}
		if i == p.table {
			at := slices.IndexFunc(known, func(c column) bool { return c.title == p.title })
			if at < 0 {
				at, known = len(known), append(known, column{title: p.title})
			}
			known[at].results = results
		}
		tables = append(tables, table(t.title, t.sentences(), inOrder(i, known)))
	}
	return strings.Join(append(tables, heldBy()), "\n")
}

// inOrder returns the columns of a table in the order of the parts, without those that are no part any more.
func inOrder(table int, known []column) (all []column) {
	for _, p := range parts("a report") {
		at := slices.IndexFunc(known, func(c column) bool { return c.title == p.title })
		if p.table == table && at >= 0 {
			all = append(all, known[at])
		}
	}
	return all
}

// columnsOf returns the columns of a table in Markdown, as table has written it.
func columnsOf(text string) (all []column) {
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line = strings.ReplaceAll(line, `\|`, "\x00")
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		sentence := strings.ReplaceAll(cells[0], "\x00", "|")
		for i, cell := range cells[1:] {
			switch {
			case n == 0:
				all = append(all, column{cell, outcomes{}})
			case n > 1 && i < len(all):
				all[i].results[sentence] = map[string]string{"yes": "pass", "**no**": "fail", "–": "skip"}[cell]
			}
		}
	}
	return all
}
