package console

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// box is a function in the map.
type box struct {
	Name         string
	X, Y         int
	Routes       int
	Kind         string // what it is besides: gateway, stores everything
	layer, order int
}

// line is the events that one function emits and another consumes.
type line struct {
	From, To string
	Types    []string
	Path     string // of SVG
	Back     bool   // against the direction of the layers
}

// systemMap is the drawn map.
type systemMap struct {
	Boxes         []*box
	Lines         []line
	Width, Height int
	Everyone      []string // types that are not drawn
}

// The measures of the map.
const (
	boxWidth, boxHeight = 150, 46
	gapX, gapY, margin  = 110, 26, 20
)

func (c *console) drawMap(w http.ResponseWriter, r *http.Request, p person) error {
	l, err := c.load(r, p)
	switch status := statusOf(err); {
	case status == http.StatusUnauthorized:
		return err
	case err != nil:
		c.log.WarnContext(r.Context(), "the map is shown without what goes on", "error", err)
	}
	c.show(w, r, p, http.StatusOK, "map", view{Title: "Map", Data: struct {
		systemMap
		Load *load // nil: the archive does not answer
		Now  time.Time
	}{layout(c.system()), l, c.now()}})
	return nil
}

// layout puts the functions into layers, so that most lines go from left to right.
func layout(s manifest.System) systemMap {
	m, byName := systemMap{}, map[string]*box{}
	for _, d := range s.Sorted() {
		b := &box{Name: d.Name, Routes: len(d.Routes)}
		switch {
		case d.Gateway:
			b.Kind = "gateway"
		case slices.Contains(d.Consumes, "*"):
			b.Kind = "takes every event"
		}
		m.Boxes, byName[d.Name] = append(m.Boxes, b), b
	}
	m.Lines, m.Everyone = flows(s)
	layers(m.Boxes, byName, m.Lines)
	m.place()
	for i := range m.Lines {
		l := &m.Lines[i]
		l.draw(byName[l.From], byName[l.To])
	}
	return m
}

// flows returns the events that go from function to function. Types that many functions emit, or most consume, are
// returned apart: they are about how the system works, and not about what it does.
func flows(s manifest.System) (lines []line, everyone []string) {
	const many = 3
	consumers, emitters := map[string][]string{}, map[string]int{}
	for _, d := range s.Sorted() {
		for _, name := range d.Consumes {
			consumers[name] = append(consumers[name], d.Name)
		}
		for _, name := range d.Emits {
			emitters[name]++
		}
	}
	for _, d := range s.Sorted() {
		to := map[string][]string{}
		for _, name := range d.Emits {
			if len(consumers[name]) > max(len(s.Functions)/2, many) || emitters[name] >= many {
				everyone = append(everyone, short(name))
				continue
			}
			for _, consumer := range consumers[name] {
				if consumer != d.Name {
					to[consumer] = append(to[consumer], short(name))
				}
			}
		}
		for _, consumer := range slices.Sorted(maps.Keys(to)) {
			lines = append(lines, line{From: d.Name, To: consumer, Types: to[consumer]})
		}
	}
	slices.Sort(everyone)
	return lines, slices.Compact(everyone)
}

// layers gives each function the layer after those whose events it consumes. Lines against the order do not count.
func layers(boxes []*box, byName map[string]*box, lines []line) {
	order := ordered(boxes, lines)
	between := map[string][]string{}
	for _, name := range order {
		for _, l := range lines {
			if l.From == name && slices.Index(order, l.To) > slices.Index(order, name) {
				byName[l.To].layer = max(byName[l.To].layer, byName[name].layer+1)
			}
		}
	}
	for _, l := range lines {
		between[l.From], between[l.To] = append(between[l.From], l.To), append(between[l.To], l.From)
	}
	arrange(boxes, byName, between)
}

// ordered returns the functions in an order that few events go against: those that only emit first, those that only
// consume last, and of the others in each step the one that emits most to those that are left, compared with what it
// consumes from them (Eades, Lin and Smyth).
func ordered(boxes []*box, lines []line) []string {
	left := map[string]bool{}
	for _, b := range boxes {
		left[b.Name] = true
	}
	balance := func(name string) (emits, consumes int) {
		for _, l := range lines {
			switch {
			case l.From == name && left[l.To]:
				emits += len(l.Types)
			case l.To == name && left[l.From]:
				consumes += len(l.Types)
			}
		}
		return emits, consumes
	}
	var first, last []string
	for len(left) > 0 {
		next, best, sink := "", 0, false
		for _, name := range slices.Sorted(maps.Keys(left)) {
			emits, consumes := balance(name)
			if emits == 0 && consumes > 0 {
				next, sink = name, true
				break
			}
			if consumes == 0 {
				emits += 1 << 20
			}
			if next == "" || emits-consumes > best {
				next, best = name, emits-consumes
			}
		}
		delete(left, next)
		if sink {
			last = append(last, next)
		} else {
			first = append(first, next)
		}
	}
	slices.Reverse(last)
	return append(first, last...)
}

// arrange orders the functions of each layer by where their neighbours are.
func arrange(boxes []*box, byName map[string]*box, between map[string][]string) {
	var all [][]*box
	for _, b := range boxes {
		for len(all) <= b.layer {
			all = append(all, nil)
		}
		b.order = len(all[b.layer])
		all[b.layer] = append(all[b.layer], b)
	}
	centre := func(b *box) float64 {
		sum := 0.0
		for _, n := range between[b.Name] {
			sum += float64(byName[n].order)
		}
		if len(between[b.Name]) == 0 {
			return float64(len(boxes)) // what no line goes to stands below
		}
		return sum / float64(len(between[b.Name]))
	}
	for range 6 {
		for _, layer := range all {
			slices.SortStableFunc(layer, func(a, b *box) int { return cmp.Compare(centre(a), centre(b)) })
			for i, b := range layer {
				b.order = i
			}
		}
	}
}

// place gives every function its place. A layer with many becomes several columns.
func (m *systemMap) place() {
	const most = 9
	columns := map[int]int{}
	for _, b := range m.Boxes {
		columns[b.layer] = max(columns[b.layer], b.order/most+1)
	}
	for _, b := range m.Boxes {
		column := b.order / most
		for layer := range b.layer {
			column += columns[layer]
		}
		b.X = margin + column*(boxWidth+gapX)
		b.Y = margin + b.order%most*(boxHeight+gapY)
		m.Width, m.Height = max(m.Width, b.X+boxWidth+margin), max(m.Height, b.Y+boxHeight+margin)
	}
	m.Height += gapY // for the lines that go back
}

// draw makes the path of the line.
func (l *line) draw(from, to *box) {
	x1, y1, x2, y2 := from.X+boxWidth, from.Y+boxHeight/2-5, to.X, to.Y+boxHeight/2-5
	bend := gapX / 2
	if l.Back = to.X <= from.X; l.Back {
		x1, y1, x2, y2 = from.X, from.Y+boxHeight/2+9, to.X+boxWidth, to.Y+boxHeight/2+9
		if bend = -gapX / 2; from.X == to.X {
			x2 = to.X
			l.Path = curve(x1, y1, x1+bend, y1, x2+bend, y2, x2, y2)
			return
		}
	}
	l.Path = curve(x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
}
