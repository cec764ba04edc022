package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/event/golden"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// derived is a file that is made from what the functions declare.
type derived struct {
	path string
	make func() ([]byte, error)
}

func derivedFiles() ([]derived, error) {
	sys := functions.System()
	declared, err := sys.Declare()
	if err != nil {
		return nil, err
	}
	return []derived{
		{"api/openapi.json", func() ([]byte, error) { return generate.OpenAPI(sys.Documents, declared) }},
		{"api/asyncapi.json", func() ([]byte, error) { return generate.AsyncAPI(sys.Documents, declared) }},
		{"terraform/manifest.json", func() ([]byte, error) { return generate.Terraform(declared) }},
	}, nil
}

func generateFiles(_ context.Context, t *tool, args []string) error {
	f := t.flags("generate", "")
	check := f.Bool("check", false, "write nothing, and fail if a file is stale")
	if rest, err := parse(f, args); err != nil {
		return err
	} else if len(rest) > 0 {
		return wrong("generate takes no arguments")
	}
	files, err := derivedFiles()
	if err != nil {
		return err
	}
	stale := false
	for _, file := range files {
		changed, err := t.derive(file, *check)
		if err != nil {
			return fmt.Errorf("%s: %w", file.path, err)
		}
		stale = stale || changed
	}
	recorded, err := t.record(*check)
	if err != nil {
		return err
	}
	if stale = stale || recorded; *check && stale {
		fmt.Fprintln(t.err, "ebb: run ebb generate and commit what it wrote")
		return errStale
	}
	return nil
}

// record records the product's event types below events/testdata, or only says what is not recorded.
func (t *tool) record(check bool) (changed bool, err error) {
	dir, types := filepath.Join(t.dir, "events", "testdata"), functions.System().Events
	if check {
		errs := golden.Check(dir, types)
		for _, err := range errs {
			fmt.Fprintln(t.err, err)
		}
		return len(errs) > 0, nil
	}
	written, removed, err := golden.Update(dir, types)
	for _, path := range removed {
		fmt.Fprintln(t.out, "removed", filepath.ToSlash(path), "(it was never committed)")
	}
	for _, path := range written {
		fmt.Fprintln(t.out, "wrote", filepath.ToSlash(path))
	}
	return len(written)+len(removed) > 0, err
}

// derive writes a file unless it is right already, or only says so.
func (t *tool) derive(file derived, check bool) (changed bool, err error) {
	data, err := file.make()
	if err != nil {
		return false, err
	}
	path := filepath.Join(t.dir, file.path)
	there, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if bytes.Equal(there, data) {
		return false, nil
	}
	if check {
		fmt.Fprintf(t.err, "%s is stale\n", file.path)
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return true, err
	}
	fmt.Fprintln(t.out, "wrote", file.path)
	return true, os.WriteFile(path, data, 0o644)
}

func manifestCommand(_ context.Context, t *tool, args []string) error {
	f := t.flags("manifest", "")
	asJSON := f.Bool("json", false, "as JSON")
	if rest, err := parse(f, args); err != nil {
		return err
	} else if len(rest) > 0 {
		return wrong("manifest takes no arguments")
	}
	declared, err := functions.System().Declare()
	if err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(t.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(declared.Manifests())
	}
	for i, d := range declared.Functions {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		t.show(d.Function)
	}
	return nil
}

func (t *tool) show(m manifest.Function) {
	fmt.Fprintln(t.out, m.Name)
	for _, r := range m.Routes {
		who := r.Access
		if len(r.Roles) > 0 {
			who = strings.Join(r.Roles, " or ")
		}
		fmt.Fprintf(t.out, "  serves  %-6s %s (%s)\n", r.Method, r.Path, who)
	}
	for _, list := range []struct {
		verb  string
		items []string
	}{{"hears ", m.Consumes}, {"says  ", m.Emits}, {"stores", stored(m)}} {
		for _, item := range list.items {
			fmt.Fprintf(t.out, "  %s  %s\n", list.verb, item)
		}
	}
	for what, is := range map[string]bool{"is told the time": m.Ticks, "takes dead letters": m.DeadLetters, "serves the outside": m.Gateway} {
		if is {
			fmt.Fprintln(t.out, "  "+what)
		}
	}
}

func stored(m manifest.Function) (names []string) {
	for _, c := range m.Collections {
		if !strings.HasPrefix(c.Name, "_") {
			names = append(names, c.Name)
		}
	}
	return names
}
