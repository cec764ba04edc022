// Package golden keeps the history of event types in files, so that a test shows when today's code cannot read what was
// emitted earlier.
//
// A folder holds recordings, FUNCTION.json, FUNCTION-2.json and so on: a JSON object with, for each event type that was
// new or had changed, its schema and its examples as events.
//
//	{"com.example.helpdesk.tickets.opened.v1": {"schema": {…}, "events": {"full": {…}, "minimal": {…}}}}
//
// The recordings of an older form are read too: a folder per type, with schema.json, schema-2.json, full.json and so
// on.
//
// A recording that was committed to git is never changed or removed. One that never was is a draft: Update replaces it
// by what the types are today, so that a type can be renamed and changed freely until it is committed. Where there is
// no git repository, no recording is a draft.
package golden

import (
	"fmt"
	"path/filepath"

	"github.com/ebb-dev/ebb/infra/event"
)

// Check compares the types with the recordings in a folder. Each error names one violation:
//
//   - a recorded event that today's schema refuses, or whose type is gone;
//   - a recorded schema that today's schema is not compatible with (see event.Compatible);
//   - a schema or an example that is not recorded: Update adds it.
//
// A folder that does not exist counts as empty.
func Check(dir string, types []*event.Info) []error {
	recorded, errs := load(dir, nil)
	c := checker{dir: dir, recorded: recorded, errs: errs}
	c.gone(event.NewCatalogue(types...))
	for _, info := range types {
		c.events(info)
		c.schemas(info)
		c.missing(info)
	}
	return c.errs
}

type checker struct {
	dir      string
	recorded recordings
	errs     []error
}

func (c *checker) add(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// gone reports recordings whose type is not defined any more: events of it could not be read.
func (c *checker) gone(types event.Catalogue) {
	for _, name := range c.recorded.names() {
		if _, defined := types.Lookup(name); !defined {
			c.add(
				"%s: %s is not defined any more (ebb generate removes what was never committed)",
				c.recorded[name].path,
				name,
			)
		}
	}
}

func (c *checker) events(info *event.Info) {
	for _, r := range c.recorded.of(info).events {
		if r.event.Type() != info.Name {
			c.add("%s: event of type %s recorded as %s", r.path, r.event.Type(), info.Name)
		} else if err := info.CheckEvent(r.event); err != nil {
			c.add("%s: %w", r.path, err)
		}
	}
}

func (c *checker) schemas(info *event.Info) {
	for _, r := range c.recorded.of(info).schemas {
		for _, change := range event.Compatible(r.schema, info.Schema) {
			c.add("%s: %s: this needs a version %d of the type", r.path, change, info.Version+1)
		}
	}
}

func (c *checker) missing(info *event.Info) {
	known := c.recorded.of(info)
	switch has, err := known.hasSchema(info); {
	case err != nil:
		c.add("%w", err)
	case !has:
		c.add("%s: the schema is not recorded in %s; ebb generate adds it", info.Name, filepath.ToSlash(c.dir))
	}
	for _, x := range info.Examples {
		switch has, err := known.hasExample(x); {
		case err != nil:
			c.add("%w", err)
		case !has:
			c.add(
				"%s: example %q is not recorded in %s; ebb generate adds it",
				info.Name,
				x.Name,
				filepath.ToSlash(c.dir),
			)
		}
	}
}
