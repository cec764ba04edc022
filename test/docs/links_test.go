package docs

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/ebb-dev/ebb/test/shop"
)

// markdown is a file of Markdown with its code taken apart from its text.
type markdown struct {
	name  string // relative to the checkout
	text  []byte // code blanked out, lines kept
	code  []span // of blocks and of spans in backquotes
	heads map[string]bool
}

type span struct {
	text string
	line int
}

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	heading  = regexp.MustCompile(`^#{1,6} +(.*?) *#*$`)
	link     = regexp.MustCompile(`\[[^\[\]]*\]\(([^()\s]+)\)`)
)

// readMarkdown reads every Markdown file of the repository.
func readMarkdown(t *testing.T) map[string]*markdown {
	t.Helper()
	all := map[string]*markdown{}
	err := filepath.WalkDir(checkout, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(checkout, path)
		if err != nil {
			return err
		}
		switch hidden := strings.HasPrefix(entry.Name(), ".") && name != "."; {
		case entry.IsDir() && (hidden || name == "bin" || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".md"):
			return nil
		}
		text, err := os.ReadFile(path)
		all[filepath.ToSlash(name)] = parseMarkdown(filepath.ToSlash(name), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parseMarkdown(name string, text []byte) *markdown {
	m := &markdown{name: name, heads: map[string]bool{}}
	end := ""
	for i, line := range strings.Split(string(text), "\n") {
		switch open := fence.FindString(line); {
		case end != "":
			if line == end {
				end = ""
			} else {
				m.code = append(m.code, span{line, i + 1})
			}
			line = ""
		case open != "":
			end = strings.TrimRight(open, "abcdefghijklmnopqrstuvwxyz")
			line = ""
		case strings.HasPrefix(line, "    "):
			m.code = append(m.code, span{line, i + 1})
			line = ""
		case heading.MatchString(line):
			m.addHeading(heading.FindStringSubmatch(line)[1])
		}
		for _, s := range codeSpan.FindAllStringSubmatch(line, -1) {
			m.code = append(m.code, span{s[1], i + 1})
		}
		m.text = append(m.text, codeSpan.ReplaceAllString(line, "code")+"\n"...)
	}
	return m
}

// addHeading notes the anchor that a heading has on the usual hosts of git repositories.
func (m *markdown) addHeading(title string) {
	title = link.ReplaceAllStringFunc(title, func(s string) string { return s[1:strings.Index(s, "](")] })
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
	for n, anchor := 1, slug; ; n++ {
		if !m.heads[anchor] {
			m.heads[anchor] = true
			return
		}
		anchor = fmt.Sprint(slug, "-", n)
	}
}

// Every relative link in a Markdown file names a file or a folder that exists, and a heading in it.
func TestLinks(t *testing.T) {
	pages, links := readMarkdown(t), 0
	for _, m := range pages {
		for _, at := range link.FindAllSubmatchIndex(m.text, -1) {
			target := string(m.text[at[2]:at[3]])
			line := 1 + bytes.Count(m.text[:at[0]], []byte("\n"))
			u, err := url.Parse(target)
			if err != nil || u.Scheme != "" {
				if err != nil {
					t.Errorf("%s:%d: %v", m.name, line, err)
				}
				continue
			}
			links++
			to := m.name
			if u.Path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(m.name), u.Path))
			}
			if _, err := os.Stat(filepath.Join(checkout, to)); err != nil || strings.HasPrefix(to, "..") {
				t.Errorf("%s:%d: %s does not exist", m.name, line, target)
			} else if u.Fragment != "" && (pages[to] == nil || !pages[to].heads[u.Fragment]) {
				t.Errorf("%s:%d: %s has no such heading", m.name, line, target)
			}
		}
	}
	if links < 20 {
		t.Errorf("found %d links only", links)
	}
}

// The pages that describe how the repository is now. Decisions and measurements describe how it was.
func current(name string) bool {
	return !strings.HasPrefix(name, "docs/adr/") && name != "docs/performance.md"
}

// Every path of this repository that its first pages name exists.
func TestPaths(t *testing.T) {
	named := regexp.MustCompile(`^(infra|functions|events|cmd|test|docs|terraform|api)/[\w./-]*$`)
	for _, m := range readMarkdown(t) {
		if strings.Contains(m.name, "/") {
			continue
		}
		for _, c := range m.code {
			if !named.MatchString(c.text) {
				continue
			}
			if _, err := os.Stat(filepath.Join(checkout, c.text)); err != nil {
				t.Errorf("%s:%d: %s does not exist", m.name, c.line, c.text)
			}
		}
	}
}

// Every target of make and every command of ebb that a page names exists. The pages about a product name those that its
// own Makefile and command have too.
func TestCommands(t *testing.T) {
	targets := names(t, `(?m)^([a-z][a-z0-9-]*):`, filepath.Join(checkout, "Makefile"))
	binary, err := shop.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.CommandContext(t.Context(), binary, "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{"help"}
	for _, c := range regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`).FindAllSubmatch(help, -1) {
		commands = append(commands, string(c[1]))
	}
	targetNamed := regexp.MustCompile(`(?:^|[;&|(] *|^ +)make ([a-z][a-z0-9 -]*)`)
	commandNamed := regexp.MustCompile(`(?:^|[ /(])(?:ebb|bin/helpdesk) ([a-z]+)`)
	for _, m := range readMarkdown(t) {
		if !current(m.name) {
			continue
		}
		for _, c := range m.code {
			text, _, _ := strings.Cut(c.text, "   # ")
			for _, found := range targetNamed.FindAllStringSubmatch(text, -1) {
				for _, target := range strings.Fields(found[1]) {
					if !slices.Contains(targets, target) {
						t.Errorf("%s:%d: make has no target %s", m.name, c.line, target)
					}
				}
			}
			for _, found := range commandNamed.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(commands, found[1]) {
					t.Errorf("%s:%d: ebb has no command %s, only %s", m.name, c.line, found[1], commands)
				}
			}
		}
	}
}

func names(t *testing.T, pattern, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		all = append(all, string(m[1]))
	}
	return all
}
