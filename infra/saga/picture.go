package saga

import (
	"fmt"
	"strings"
	"time"
)

// Declared is the declaration of a step, for diagrams and manifests.
type Declared struct {
	Name     string        `json:"name"`
	Done     string        `json:"done"`
	Failed   string        `json:"failed,omitempty"`
	Undone   string        `json:"undone,omitempty"`
	Deadline time.Duration `json:"deadline"`
	Pivot    bool          `json:"pivot,omitempty"`
}

// Steps returns the declared steps in order.
func (s *Saga[S]) Steps() []Declared {
	all := make([]Declared, len(s.steps))
	for i, step := range s.steps {
		d := Declared{Name: step.Name, Done: step.Done.Name, Deadline: step.Deadline, Pivot: step.Pivot}
		if step.Failed != nil {
			d.Failed = step.Failed.Name
		}
		if step.Undone != nil {
			d.Undone = step.Undone.Name
		}
		all[i] = d
	}
	return all
}

// Mermaid returns the declaration as a Mermaid state diagram: forward through the steps, and from each step back
// through its undo and those of the steps before it.
func (s *Saga[S]) Mermaid() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("stateDiagram-v2")
	for i, step := range s.steps {
		if step.Pivot {
			line("    state %q as %s", step.Name+" (pivot)", node(i))
		} else {
			line("    state %q as %s", step.Name, node(i))
		}
		if step.Undo != nil && i <= s.pivot {
			line("    state %q as %s", "undo "+step.Name, back(i))
		}
	}
	line("    [*] --> %s", node(0))
	for i, step := range s.steps {
		next := "completed"
		if i+1 < len(s.steps) {
			next = node(i + 1)
		}
		line("    %s --> %s: %s", node(i), next, step.Done.What)
		if i > s.pivot {
			line("    %s --> %s: deadline, again", node(i), node(i))
			continue
		}
		if step.Failed != nil {
			line("    %s --> %s: %s", node(i), s.backFrom(i-1), step.Failed.What)
		}
		line("    %s --> %s: deadline or cancel", node(i), s.backFrom(i))
	}
	for i := len(s.steps) - 1; i >= 0; i-- {
		if s.steps[i].Undo != nil && i <= s.pivot {
			line("    %s --> %s: %s", back(i), s.backFrom(i-1), s.steps[i].Undone.What)
			line("    %s --> %s: deadline, again", back(i), back(i))
		}
	}
	line("    completed --> [*]")
	line("    undone --> [*]")
	return b.String()
}

func (s *Saga[S]) backFrom(i int) string {
	for ; i >= 0; i-- {
		if s.steps[i].Undo != nil {
			return back(i)
		}
	}
	return "undone"
}

func node(i int) string { return fmt.Sprintf("s%d", i+1) }
func back(i int) string { return fmt.Sprintf("u%d", i+1) }
