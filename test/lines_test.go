package test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is the longest line of Go code; a tab counts as one column.
const maxColumns = 120

// taggedField is a struct field with a tag, which Go's grammar does not let break.
var taggedField = regexp.MustCompile("`\\w+:\".*\"`$")

// generated is what tools write into the files that they make, as go generate asks for.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestLinesAreNotTooLong(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(files) < 100 {
		t.Fatalf("git lists %d Go files", len(files))
	}
	for _, name := range files {
		source, err := os.ReadFile("../" + name)
		if os.IsNotExist(err) {
			continue // deleted and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if generated.Match(source) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(source)) {
			n++
			line = strings.TrimSuffix(line, "\n")
			if columns := utf8.RuneCountInString(line); columns > maxColumns && !taggedField.MatchString(line) {
				t.Errorf("%s:%d has %d columns, more than %d", name, n, columns, maxColumns)
			}
		}
	}
}
