package saga

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Declared is the declaration of a step, for diagrams and manifests.
type Declared struct {
	Name     string        `json:"name"`
	After    []string      `json:"after,omitempty"`
	Done     string        `json:"done,omitempty"`
	Failed   string        `json:"failed,omitempty"`
	Undone   string        `json:"undone,omitempty"`
	Deadline time.Duration `json:"deadline"`
	Pivot    bool          `json:"pivot,omitempty"`
}

// Declared returns the declared steps of the newest version in order.
func (g *Saga[S]) Declared() []Declared {
	all := make([]Declared, len(g.d.Steps))
	for i, step := range g.d.Steps {
		d := Declared{Name: step.Name, After: step.After, Deadline: step.Deadline, Pivot: step.Pivot}
		if step.Done != nil {
			d.Done = step.Done.Info().Name
		}
		if step.Failed != nil {
			d.Failed = step.Failed.Info().Name
		}
		if step.Undone != nil {
			d.Undone = step.Undone.Info().Name
		}
		all[i] = d
	}
	return all
}

// Mermaid returns the declaration of the newest version as a Mermaid state diagram.
func (g *Saga[S]) Mermaid() string { return Mermaid(g.d.Steps) }

// Mermaid returns steps as a Mermaid state diagram: forward through the steps, and from each step back through its undo
// and those of the steps before it.
func Mermaid[S any](steps []Step[S]) string {
	d := drawing[S]{steps: steps, plan: planOf(steps)}
	return d.draw()
}

type drawing[S any] struct {
	steps []Step[S]
	plan  Progress
	text  strings.Builder
}

func (d *drawing[S]) line(format string, args ...any) { fmt.Fprintf(&d.text, format+"\n", args...) }

func (d *drawing[S]) draw() string {
	pivot := slices.IndexFunc(d.steps, func(s Step[S]) bool { return s.Pivot })
	past := func(i int) bool { return pivot >= 0 && i != pivot && d.plan.follows(i, pivot) }
	d.line("stateDiagram-v2")
	for i, s := range d.steps {
		switch {
		case s.Pivot:
			d.line("    state %q as %s", s.Name+" (pivot)", node(i))
		case s.Command == nil:
			d.line("    state %q as %s", s.Name+" (waits)", node(i))
		default:
			d.line("    state %q as %s", s.Name, node(i))
		}
		if s.Undo != nil && !past(i) {
			d.line("    state %q as %s", "undo "+s.Name, back(i))
		}
	}
	for i := range d.steps {
		if len(d.before(i)) == 0 {
			d.line("    [*] --> %s", node(i))
		}
	}
	for i, s := range d.steps {
		d.forward(i, past(i))
		if past(i) {
			continue
		}
		if s.Failed != nil {
			d.each(d.backFrom(d.before(i)), node(i), s.Failed.Info().What)
		}
		d.each(d.backFrom([]int{i}), node(i), "deadline or cancel")
	}
	for i := len(d.steps) - 1; i >= 0; i-- {
		if s := d.steps[i]; s.Undo != nil && !past(i) {
			d.each(d.backFrom(d.before(i)), back(i), s.Undone.Info().What)
			d.line("    %s --> %s: deadline, again", back(i), back(i))
		}
	}
	d.line("    completed --> [*]")
	d.line("    undone --> [*]")
	return d.text.String()
}

// forward draws the ways on from step i.
func (d *drawing[S]) forward(i int, past bool) {
	s, done, last := d.steps[i], "answered", true
	if s.Done != nil {
		done = s.Done.Info().What
	}
	for j := range d.steps {
		if d.plan.dependsOn(j, i) {
			d.line("    %s --> %s: %s", node(i), node(j), done)
			last = false
		}
	}
	if last {
		d.line("    %s --> completed: %s", node(i), done)
	}
	if past {
		d.line("    %s --> %s: deadline, again", node(i), node(i))
	}
}

// before returns the steps that step i depends on.
func (d *drawing[S]) before(i int) (all []int) {
	for j := range i {
		if d.plan.dependsOn(i, j) {
			all = append(all, j)
		}
	}
	return all
}

// backFrom returns the undos of the steps, or of those before a step that has none.
func (d *drawing[S]) backFrom(steps []int) (all []string) {
	for _, i := range steps {
		to := []string{back(i)}
		if d.steps[i].Undo == nil {
			to = d.backFrom(d.before(i))
		}
		for _, t := range to {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	if len(all) == 0 {
		return []string{"undone"}
	}
	return all
}

func (d *drawing[S]) each(to []string, from, label string) {
	for _, t := range to {
		d.line("    %s --> %s: %s", from, t, label)
	}
}

func node(i int) string { return fmt.Sprintf("s%d", i+1) }
func back(i int) string { return fmt.Sprintf("u%d", i+1) }
