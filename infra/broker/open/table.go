package open

import (
	"fmt"
	"strings"
	"time"
)

// Table returns the capabilities of all drivers as a table in Markdown.
func Table() string {
	rows := make([][]string, 1, 16)
	rows[0] = []string{""}
	add := func(i int, label, cell string) {
		if len(rows) <= i {
			rows = append(rows, []string{label})
		}
		rows[i] = append(rows[i], cell)
	}
	for _, d := range drivers {
		if d.form == "" || d.capabilities == nil {
			continue
		}
		c := d.capabilities()
		var forms []string
		for form := range strings.SplitSeq(d.form, ", ") {
			forms = append(forms, "`"+form+"`")
		}
		for i, cell := range [...]struct{ label, text string }{
			{"", strings.Join(forms, " or ")},
			{"product", c.Product},
			{"an event on the wire", c.Binding},
			{"a published event survives", c.Durable},
			{"order per `partitionkey`", c.Order},
			{"processes that serve one trigger", c.Sharing},
			{"what a dead process held comes again", c.Crash},
			{"filters are applied by", string(c.Filters)},
			{"retries are made by", string(c.Retries)},
			{"dead letters are handed on by", string(c.DeadLetters)},
			{"the largest event", bytes(c.MaxEvent)},
			{"an event that is published twice", twice(c.Deduplicates)},
			{"handled events stay", yes(c.Keeps)},
		} {
			add(i, cell.label, cell.text)
		}
	}
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat(" --- |", len(row)))
		}
	}
	return b.String()
}

func bytes(n int) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func twice(d time.Duration) string {
	if d == 0 {
		return "is handed out twice; the inbox of a function knows it"
	}
	return fmt.Sprintf("within %d minutes is handed out once; later the inbox of a function knows it", int(d.Minutes()))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
