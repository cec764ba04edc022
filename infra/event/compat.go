package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Compatible returns every change from old to today that is incompatible; none if the version may stay. It checks both
// directions, because both happen at once: today's code reads old events (from the archive, a replay, a queue), and
// yesterday's code reads new ones (while a deployment is under way). So a limit may be neither narrowed nor widened,
// and a required field stays required.
func Compatible(old, today *Schema) []string {
	var c changes
	c.compare("$", old, today)
	return c
}

type changes []string

func (c *changes) add(at, format string, args ...any) {
	*c = append(*c, at+" "+fmt.Sprintf(format, args...))
}

func (c *changes) compare(at string, old, today *Schema) {
	if old.Type != today.Type {
		c.add(at, "changed its type from %s to %s", schemaType(old), schemaType(today))
		return
	}
	if old.Format != today.Format {
		c.add(at, "changed its format from %q to %q", old.Format, today.Format)
	}
	if old.Pattern != today.Pattern {
		c.add(at, "changed its pattern from %q to %q", old.Pattern, today.Pattern)
	}
	c.enums(at, old, today)
	c.limits(at, old, today)
	c.fields(at, old, today)
	c.inner(at+"[]", old.Items, today.Items)
	c.inner(at+".*", old.Values, today.Values)
}

func schemaType(s *Schema) string {
	if s.Type == "" {
		return "any"
	}
	return s.Type
}

func (c *changes) inner(at string, old, today *Schema) {
	switch {
	case old == nil && today == nil:
	case old == nil || today == nil:
		c.add(at, "was or is of any type, and is not both")
	default:
		c.compare(at, old, today)
	}
}

func (c *changes) enums(at string, old, today *Schema) {
	if (old.Enum == nil) != (today.Enum == nil) {
		c.add(at, "changed between a list of values and any")
		return
	}
	for _, value := range old.Enum {
		if !slices.Contains(today.Enum, value) {
			c.add(at, "no longer allows %q, which old events hold", value)
		}
	}
	for _, value := range today.Enum {
		if !slices.Contains(old.Enum, value) {
			c.add(at, "now allows %q, which older readers refuse", value)
		}
	}
}

func (c *changes) limits(at string, old, today *Schema) {
	c.limit(at, "minimum", old.Minimum, today.Minimum, 1)
	c.limit(at, "minLength", old.MinLength, today.MinLength, 1)
	c.limit(at, "minItems", old.MinItems, today.MinItems, 1)
	c.limit(at, "maximum", old.Maximum, today.Maximum, -1)
	c.limit(at, "maxLength", old.MaxLength, today.MaxLength, -1)
	c.limit(at, "maxItems", old.MaxItems, today.MaxItems, -1)
}

// limit compares one bound. tighter is the direction, up or down, in which it narrows.
func (c *changes) limit(at, name string, old, today *int64, tighter int64) {
	switch {
	case old == nil && today == nil:
	case old != nil && today != nil && *old == *today:
	case old == nil || today != nil && (*today > *old) == (tighter > 0):
		c.add(at, "has a narrower %s (%s, now %s), which old events may break", name, bound(old), bound(today))
	default:
		c.add(at, "has a wider %s (%s, now %s), which older readers refuse", name, bound(old), bound(today))
	}
}

func bound(n *int64) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}

func (c *changes) fields(at string, old, today *Schema) {
	if (old.Properties == nil) != (today.Properties == nil) {
		c.add(at, "changed between an object of known fields and any object")
		return
	}
	for _, name := range sorted(old.Properties) {
		is, ok := today.Properties[name]
		if !ok {
			c.add(at+"."+name, "was removed")
			continue
		}
		c.presence(at+"."+name, slices.Contains(old.Required, name), slices.Contains(today.Required, name))
		c.compare(at+"."+name, old.Properties[name], is)
	}
	for _, name := range sorted(today.Properties) {
		if _, had := old.Properties[name]; !had && slices.Contains(today.Required, name) {
			c.add(at+"."+name, "is new and required, and old events lack it")
		}
	}
}

func (c *changes) presence(at string, was, is bool) {
	switch {
	case is && !was:
		c.add(at, "became required, and old events may lack it")
	case was && !is:
		c.add(at, "became optional, and older readers require it")
	}
}

func sorted(properties map[string]*Schema) []string {
	return slices.Sorted(maps.Keys(properties))
}

// String returns the schema as JSON, as the golden files have it.
func (s *Schema) String() string {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err.Error() // a schema holds nothing that cannot be marshalled
	}
	return string(raw)
}
