package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Outcome tells how a case ended.
type Outcome string

// The outcomes.
const (
	Held    Outcome = "ok"
	Failed  Outcome = "FAIL"
	Skipped Outcome = "skip"
)

// Failure is one difference between the required behaviour and what the broker did.
type Failure struct {
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
}

// Result holds a case with its outcome.
type Result struct {
	Case
	Outcome  Outcome       `json:"outcome"`
	Why      string        `json:"why,omitempty"` // the reason why the case was skipped
	Failures []Failure     `json:"faults,omitempty"`
	Took     time.Duration `json:"took_ns"`
}

// Report holds the results of a run, in the order of Cases.
type Report struct {
	URL     string
	Results []Result
	Took    time.Duration
}

// Count returns the number of cases with the outcome.
func (r *Report) Count(o Outcome) (n int) {
	for i := range r.Results {
		if r.Results[i].Outcome == o {
			n++
		}
	}
	return n
}

// OK reports whether no case failed.
func (r *Report) OK() bool { return r.Count(Failed) == 0 }

// WriteText writes the report for people: by section, one line for each sentence, with the reason below each failed
// or skipped case.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	section := ""
	for i := range r.Results {
		c := &r.Results[i]
		if c.Section != section {
			section = c.Section
			fmt.Fprintf(&b, "\n%s\n", section)
		}
		c.write(&b)
	}
	fmt.Fprintf(&b, "\n%s: %s in %.1f s.\n", r.URL, r.summary(), r.Took.Seconds())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) write(b *strings.Builder) {
	level := ""
	if r.Level != Must {
		level = " [" + string(r.Level) + "]"
	}
	fmt.Fprintf(b, "  %-4s  %s%s (%s)\n", r.Outcome, r.Sentence, level, r.ID)
	if r.Why != "" {
		fmt.Fprintf(b, "        %s\n", r.Why)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(b, "        expected: %s\n        seen:     %s\n", f.Expected, f.Seen)
	}
}

func (r *Report) summary() string {
	return fmt.Sprintf("%d cases, %d held, %d failed, %d skipped", len(r.Results), r.Count(Held), r.Count(Failed),
		r.Count(Skipped))
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		URL     string        `json:"url"`
		Cases   int           `json:"cases"`
		Held    int           `json:"held"`
		Failed  int           `json:"failed"`
		Skipped int           `json:"skipped"`
		Took    time.Duration `json:"took_ns"`
		Results []Result      `json:"results"`
	}{r.URL, len(r.Results), r.Count(Held), r.Count(Failed), r.Count(Skipped), r.Took, r.Results})
}
