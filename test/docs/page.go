// Package docs reads the pages of the documentation and does what they say: it writes the files that a page shows, runs
// its commands in a shell, and compares what they print with what the page promises.
//
// A fenced block of a page is one of these, by its language and its first line:
//
//   - sh: commands. A comment behind three spaces ("   # …") promises what the output has, several of them in their
//     order, with three spaces between. A command that promises FAIL or an exit status must fail, any other must
//     succeed.
//   - diff that begins with "+++ FILE": lines to take out of a file and to put into it, with lines around them. Lines
//     that begin with @@ separate changes.
//   - any other language with a path as comment in the first line ("// functions/reviews/reviews.go"): a whole file.
//     With " (excerpt)" behind the path: lines that the file has already.
//
// Everything else is text.
package docs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Block is a fenced block of a page.
type Block struct {
	Lang string
	Text string // without the fences
	Line int    // of the page, the first one of Text
}

// Page is a page of Markdown, or a part of one.
type Page struct {
	Name   string // for messages: docs/first-function.md
	Blocks []Block
}

var fence = regexp.MustCompile("^(```+)([a-z]*)")

// Read reads the blocks of a page. With a heading ("## A five-minute tour") it reads those below it, up to the next one
// of its level or above.
func Read(path, name, heading string) (Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Page{}, err
	}
	p := Page{Name: name}
	var block *Block
	var end string
	inside := heading == ""
	for i, line := range strings.SplitAfter(string(text), "\n") {
		bare := strings.TrimRight(line, "\n")
		switch {
		case block != nil && bare == end:
			if inside {
				p.Blocks = append(p.Blocks, *block)
			}
			block = nil
		case block != nil:
			block.Text += line
		case fence.MatchString(bare):
			m := fence.FindStringSubmatch(bare)
			end, block = m[1], &Block{Lang: m[2], Line: i + 2}
		case bare == heading:
			inside = true
		case inside && heading != "" && strings.HasPrefix(bare, "#") && level(bare) <= level(heading):
			inside = false
		}
	}
	if block != nil {
		return p, fmt.Errorf("%s:%d: the block has no end", name, block.Line-1)
	}
	if len(p.Blocks) == 0 {
		return p, fmt.Errorf("%s has no blocks below %q", name, heading)
	}
	return p, nil
}

func level(heading string) int { return len(heading) - len(strings.TrimLeft(heading, "#")) }

var path = regexp.MustCompile(`^(?://|#|--) ([\w./-]+\.\w+|Makefile)( \(excerpt\))?\n\n?`)

// File returns the path and the content of a block that is a file or an excerpt of one.
func (b Block) File() (name, content string, excerpt, ok bool) {
	m := path.FindStringSubmatch(b.Text)
	if m == nil || b.Lang == "sh" || b.Lang == "diff" {
		return "", "", false, false
	}
	return m[1], b.Text[len(m[0]):], m[2] != "", true
}

// Change is a replacement in a file.
type Change struct {
	Old, New string
	Line     int // of the page
}

// Diff returns the file that a block changes, and the changes.
func (b Block) Diff() (name string, changes []Change, ok bool) {
	first, rest, _ := strings.Cut(b.Text, "\n")
	name, ok = strings.CutPrefix(first, "+++ ")
	if b.Lang != "diff" || !ok {
		return "", nil, false
	}
	c := Change{Line: b.Line + 1}
	for i, line := range strings.SplitAfter(rest, "\n") {
		switch {
		case line == "":
		case strings.HasPrefix(line, "@@"):
			changes, c = append(changes, c), Change{Line: b.Line + i + 2}
		case line[0] == '+':
			c.New += line[1:]
		case line[0] == '-':
			c.Old += line[1:]
		default:
			line = strings.TrimPrefix(line, " ")
			c.Old, c.New = c.Old+line, c.New+line
		}
	}
	return name, append(changes, c), true
}

// Command is a command of a block of shell.
type Command struct {
	Text  string // without the promises; several lines if all but the last end in a backslash
	Wants []string
	Line  int // of the page
}

var failure = regexp.MustCompile(`FAIL|exit status [1-9]`)

// MustFail reports whether the command has to fail: it promises FAIL or an exit status.
func (c Command) MustFail() bool { return failure.MatchString(strings.Join(c.Wants, " ")) }

// Commands returns the commands of a block of shell.
func (b Block) Commands() []Command {
	var all []Command
	var open bool
	for i, line := range strings.Split(strings.TrimRight(b.Text, "\n"), "\n") {
		text, promise, promises := strings.Cut(line, "   # ")
		text = strings.TrimRight(text, " ")
		if !open {
			if text == "" || strings.HasPrefix(text, "#") {
				continue
			}
			all = append(all, Command{Line: b.Line + i})
		}
		c := &all[len(all)-1]
		c.Text += text + "\n"
		if promises {
			c.Wants = append(c.Wants, strings.Split(promise, "   ")...)
		}
		open = strings.HasSuffix(text, `\`)
	}
	return all
}
