package main

import (
	"os"
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
	if len(tables) != 3 {
		t.Fatalf("%s has %d tables, want three: make matrix", document, len(tables))
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
	for i, suites := range [][]struct{ title, pkg, test string }{drivers, hosts} {
		for _, d := range suites {
			if !strings.Contains(tables[i], "| "+d.title+" |") {
				t.Errorf("%s is in no column: make matrix", d.title)
			}
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
