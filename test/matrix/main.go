// Command matrix runs the suite of brokers against every driver, the suite of hosts against every host to which a
// platform delivers, and the conformance suite against a stand-alone broker of this tree, and writes which sentence
// holds where into docs/conformance.md:
//
//	make matrix
//
// Nothing in the tables is typed by hand. A driver whose server this machine lacks is "–": its tests say what to start.
// With -knative FILE, the report of `ebb conformance --triggers knative --json` on a cluster is a column as well.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/host/hosttest"
)

// drivers are the columns of the first table: what a test of which package runs the suite.
var drivers = []struct{ title, pkg, test string }{
	{"memory", "./infra/broker/memory", "TestBroker"},
	{"NATS embedded", "./infra/broker/nats", "TestBroker"},
	{"NATS cluster", "./infra/broker/nats", "TestBrokerOnCluster"},
	{"Kafka (kfake)", "./infra/broker/kafka", "TestBroker"},
	{"RabbitMQ", "./infra/broker/rabbitmq", "TestBroker"},
	{"Redis", "./infra/broker/redis", "TestBroker"},
	{"SNS and SQS (kumo)", "./infra/broker/sqs", "TestBroker"},
	{"Pub/Sub (fake)", "./infra/broker/pubsub", "TestBroker"},
}

// hosts are the columns of the second table: what a test of which package runs the suite of hosts.
var hosts = []struct{ title, pkg, test string }{
	{"Knative", "./infra/host/knative", "TestHost"},
	{"Cloud Run (push)", "./infra/host/knative", "TestHostPush"},
	{"Lambda (SQS)", "./infra/host/lambda", "TestHost"},
}

const (
	document = "docs/conformance.md"
	begin    = "<!-- written by make matrix -->\n"
	end      = "<!-- end -->\n"
)

func main() {
	knative := flag.String("knative", "", "a report of ebb conformance --json on Knative")
	flag.Parse()
	if err := run(*knative); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func run(knative string) error {
	columns, failed, err := runAll(drivers, brokertest.Sentences())
	if err != nil {
		return err
	}
	text := table("sentence", brokertest.Sentences(), columns)
	columns, hostFailed, err := runAll(hosts, hosttest.Sentences())
	if err != nil {
		return err
	}
	failed = failed || hostFailed
	text += "\n" + table("sentence by host", hosttest.Sentences(), columns)
	local, err := runConformance()
	if err != nil {
		return err
	}
	failed = failed || local.failed()
	fmt.Fprintf(os.Stderr, "ebb broker: %s\n", local)
	columns = []column{{"`ebb broker`", local}}
	if knative != "" {
		data, err := os.ReadFile(knative)
		if err != nil {
			return err
		}
		results, err := readReport(data)
		if err != nil {
			return err
		}
		columns = append(columns, column{"Knative", results})
	}
	text += "\n" + table("sentence by HTTP", conformanceSentences(), columns)
	if err := write(text); err != nil {
		return err
	}
	if failed {
		return errors.New("a sentence does not hold; see the tables in " + document)
	}
	return nil
}

// runAll runs the suite of the sentences for each column.
func runAll(
	suites []struct{ title, pkg, test string }, sentences []string,
) (columns []column, failed bool, err error) {
	for _, s := range suites {
		results, err := runSuite(s.pkg, s.test, sentences)
		if err != nil {
			return nil, false, err
		}
		columns = append(columns, column{s.title, results})
		failed = failed || results.failed()
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.title, results)
	}
	return columns, failed, nil
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

// runSuite runs one test, which runs the suite with these sentences. A failure of the test is in the outcomes.
func runSuite(pkg, test string, sentences []string) (outcomes, error) {
	c := exec.Command("go", "test", "-json", "-count", "1", "-run", "^"+test+"$", pkg)
	c.Stderr = os.Stderr
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	results, readErr := readTests(bytes.NewReader(out), sentences)
	if readErr == nil && err != nil && !results.failed() {
		readErr = fmt.Errorf("%s %s: %w", pkg, test, err)
	}
	return results, readErr
}

// readTests returns the outcomes of the sentences in the output of go test -json.
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
	}
	return results, lines.Err()
}

// runConformance runs the conformance suite against a stand-alone broker of this tree.
func runConformance() (outcomes, error) {
	dir, err := os.MkdirTemp("", "matrix")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := path.Join(dir, "ebb")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/ebb").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	server := exec.Command(program, "broker", "--data", path.Join(dir, "data"), "--addr", "127.0.0.1:0")
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
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	address, err := addressIn(lines)
	if err != nil {
		return nil, err
	}
	report, err := exec.Command(program, "conformance", address, "--json").Output()
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

// write replaces what stands between the marks of the document.
func write(text string) error {
	content, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(content), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the tables: want %q and %q", document, begin, end)
	}
	return os.WriteFile(document, []byte(before+begin+text+end+after), 0o644)
}
