package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/host/hosttest"
)

// The tables of the document have the sentences of the suites, and a column for each driver. What holds on a machine is
// not compared: another one may lack a server.
func TestDocument(t *testing.T) {
	content, err := os.ReadFile("../../" + document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), begin)
	text, _, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s has no tables: make matrix", document)
	}
	tables := strings.Split(text, "\n\n")
	if len(tables) != 4 {
		t.Fatalf("%s has %d parts, want three tables and what ran: make matrix", document, len(tables))
	}
	if tables[3] != heldBy() {
		t.Errorf("what ran differs, run make matrix:\n%s\nwant\n%s", tables[3], heldBy())
	}
	for _, c := range []struct {
		table     string
		sentences []string
	}{
		{tables[0], brokertest.Sentences()}, {tables[1], hosttest.Sentences()}, {tables[2], conformanceSentences()},
	} {
		var got []string
		for _, row := range strings.Split(strings.TrimSpace(c.table), "\n")[2:] {
			sentence, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
			got = append(got, strings.ReplaceAll(sentence, `\|`, "|"))
		}
		if !slices.Equal(got, c.sentences) {
			t.Errorf("the sentences differ from the suite's, run make matrix:\n%s", strings.Join(got, "\n"))
		}
	}
	for _, p := range parts("") {
		if !strings.Contains(tables[p.table], "| "+p.title+" |") {
			t.Errorf("%s is in no column: make matrix", p.title)
		}
	}
}

// Each column is of a test that is there, and what a host's column leaves out is what its test leaves to the platform:
// a sentence that is not tried has its reason, and one with a reason is not tried.
func TestHeldBy(t *testing.T) {
	for _, s := range slices.Concat(drivers, hosts) {
		sources, err := filepath.Glob("../../" + s.pkg + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		var all string
		for _, name := range sources {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all += string(content)
		}
		_, body, found := strings.Cut(all, "func "+s.test+"(t *testing.T) {")
		if !found {
			t.Errorf("%s: %s has no %s", s.title, s.pkg, s.test)
		}
		body, _, _ = strings.Cut(body, "\nfunc ")
		for name, sentence := range map[string]string{
			"hosttest.Filters": hosttest.Filters, "hosttest.Order": hosttest.Order,
		} {
			told := slices.ContainsFunc(s.left, func(l left) bool { return l.sentence == sentence && l.why != "" })
			if told != strings.Contains(body, name) {
				t.Errorf("%s: %q has a reason not to be tried: %v; its test has another opinion", s.title, sentence, told)
			}
		}
	}
	content, err := os.ReadFile("../../" + document)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(content), begin)
	tables := strings.Split(text, "\n\n")
	for _, c := range columnsOf(tables[1]) {
		at := slices.IndexFunc(hosts, func(s suite) bool { return s.title == c.title })
		if at < 0 {
			t.Fatalf("%s is no host: make matrix", c.title)
		}
		for _, sentence := range hosttest.Sentences() {
			told := slices.ContainsFunc(hosts[at].left, func(l left) bool { return l.sentence == sentence })
			if told != (c.results[sentence] == "skip") {
				t.Errorf("%s: %q is %q, and has a reason not to be tried: %v", c.title, sentence, c.results[sentence], told)
			}
		}
	}
}

// The map of the README says where each broker of the tables stands.
func TestMap(t *testing.T) {
	content, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(content), "| `infra/broker/memory`")
	row, _, _ = strings.Cut("`memory`"+row, "\n")
	for _, s := range drivers {
		if name := "`" + filepath.Base(s.pkg) + "`"; !strings.Contains(row, name) {
			t.Errorf("the map of README.md has no broker %s", name)
		}
	}
}

// A sentence that was tried more than once has its worst outcome, and one whose tests were skipped has none.
func TestRead(t *testing.T) {
	sentences := brokertest.Sentences()
	name := func(i int) string { return strings.ReplaceAll(sentences[i], " ", "_") }
	results, err := readTests(strings.NewReader(
		`{"Action":"run","Test":"TestBroker/`+name(0)+`"}
{"Action":"pass","Test":"TestBroker/1_shards/`+name(0)+`"}
{"Action":"fail","Test":"TestBroker/3_shards/`+name(0)+`"}
{"Action":"pass","Test":"TestBroker/3_shards/`+name(1)+`"}
{"Action":"skip","Test":"TestBroker/3_shards/`+name(2)+`"}
{"Action":"fail","Test":"TestBroker"}
`), sentences)
	if err != nil || results.String() != "1 pass, 1 fail, 1 skip" || !results.failed() {
		t.Errorf("got %v, %v", results, err)
	}
	want := "| x | a |\n| --- | --- |\n| " + sentences[0] + " | **no** |\n| " + sentences[1] + " | yes |\n| " +
		sentences[2] + " | – |\n| " + sentences[3] + " | – |\n"
	if got := table("x", sentences[:4], []column{{"a", results}}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A part that runs alone writes its column, and leaves the others as they are.
func TestMerge(t *testing.T) {
	sentences := brokertest.Sentences()
	all := parts("a report")
	text := ""
	for _, p := range all {
		text = merge(text, p, outcomes{titles[p.table].sentences()[0]: "pass"})
	}
	redis := all[slices.IndexFunc(all, func(p part) bool { return p.title == "Redis" })]
	changed := merge(text, redis, outcomes{sentences[0]: "fail"})
	was := "| " + sentences[0] + strings.Repeat(" | yes", len(drivers)) + " |\n"
	is := "| " + sentences[0] + strings.Repeat(" | yes", 5) + " | **no**" + strings.Repeat(" | yes", len(drivers)-6) +
		" |\n"
	if !strings.Contains(text, was) || changed != strings.Replace(text, was, is, 1) {
		t.Errorf("got\n%s\nof\n%s", changed, text)
	}
	if got := merge(changed, redis, outcomes{sentences[0]: "pass"}); got != text {
		t.Errorf("a column that is written again: got\n%s\nwant\n%s", got, text)
	}
}
