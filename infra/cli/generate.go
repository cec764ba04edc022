package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/event/golden"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
	documents "github.com/ebb-dev/ebb/infra/store/golden"
)

func (a *app) generateCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "generate",
		Short: "Write the files that are derived from the functions, or check that they are up to date",
		Long: `Write the files that are derived from the functions: OpenAPI with its clients in Go and TypeScript,
		AsyncAPI, the input of Terraform, and golden files for new event types. Golden files that exist are never
		changed. In a product that has the folder functions/testdata/documents also recordings of new forms of stored
		documents, in one whose docs/security.md has a place for it, the table of who may call what, and in one that has
		the folder observe, Prometheus's rules for the objectives of operations and sagas.`,
		Example: a.example(`
		$ generate
		$ generate --check                  for CI: writes nothing, fails if a file is stale`),
		Args: noArgs,
	}
	c.Flags().BoolVar(&check, "check", false, "write nothing, and fail if a file is stale")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if done, err := a.delegate(c.Context(), mustBeOwn); done || err != nil {
			return err
		}
		return a.generate(check)
	}
	return c
}

func (a *app) generate(check bool) error {
	declared, err := a.system.Declare()
	if err != nil {
		return err
	}
	files, err := derivedFiles(a.system, declared)
	if err != nil {
		return err
	}
	if files, err = a.withAccess(files, declared); err != nil {
		return err
	}
	if files, err = a.withRules(files, declared); err != nil {
		return err
	}
	stale, err := a.golden(check)
	if err != nil {
		return err
	}
	behind, err := a.documents(declared, check)
	if err != nil {
		return err
	}
	stale = stale || behind
	for _, file := range files {
		changed, err := a.derive(file, check)
		if err != nil {
			return fmt.Errorf("%s: %w", file.path, err)
		}
		stale = stale || changed
	}
	if check && stale {
		fmt.Fprintf(a.Err, "%s: run %s generate and commit what it wrote\n", a.Name, a.Name)
		return errReported
	}
	return nil
}

// accessPath is the document that has the table of who may call what, in a product that has the document.
const accessPath = "docs/security.md"

// withAccess adds the document with the table of who may call what to the files.
func (a *app) withAccess(files []derivedFile, declared manifest.System) ([]derivedFile, error) {
	document, err := os.ReadFile(filepath.Join(a.Dir, filepath.FromSlash(accessPath)))
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	changed, ok, err := generate.AccessTable(declared, document)
	if err != nil || !ok {
		return files, err
	}
	return append(files, derivedFile{accessPath, changed}), nil
}

// rulesPath is the file with Prometheus's rules, in a product that has its folder.
const rulesPath = "observe/slo.rules.yaml"

// withRules adds the file with Prometheus's rules to the files.
func (a *app) withRules(files []derivedFile, declared manifest.System) ([]derivedFile, error) {
	_, err := os.Stat(filepath.Join(a.Dir, filepath.Dir(filepath.FromSlash(rulesPath))))
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	return append(files, derivedFile{rulesPath, generate.Rules(declared)}), nil
}

// goldenDir is where the golden files of a product's event types are.
const goldenDir = "events/testdata"

// golden writes the missing golden files, or with check only reports them.
func (a *app) golden(check bool) (stale bool, err error) {
	dir := filepath.Join(a.Dir, goldenDir)
	if check {
		violations := golden.Check(dir, a.system.Events)
		for _, violation := range violations {
			fmt.Fprintln(a.Err, violation)
		}
		return len(violations) > 0, nil
	}
	written, removed, err := golden.Update(dir, a.system.Events)
	for _, path := range removed {
		fmt.Fprintln(a.Out, "removed", a.shown(path), "(it was never committed)")
	}
	for _, path := range written {
		fmt.Fprintln(a.Out, "wrote", a.shown(path))
	}
	return false, err
}

// documentsDir is where the recordings of stored documents are, in a product that has the folder.
const documentsDir = "functions/testdata/documents"

// documents records the forms of documents that are not recorded, or with check only reports what is wrong.
func (a *app) documents(declared manifest.System, check bool) (stale bool, err error) {
	dir := filepath.Join(a.Dir, filepath.FromSlash(documentsDir))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, d := range declared.Functions {
		if check {
			for _, violation := range documents.Check(dir, d.Name, d.Schema) {
				fmt.Fprintln(a.Err, violation)
				stale = true
			}
			continue
		}
		written, err := documents.Update(dir, d.Name, d.Schema)
		if err != nil {
			return false, err
		}
		if written {
			fmt.Fprintln(a.Out, "wrote", documentsDir+"/"+d.Name+".json")
		}
	}
	return stale, nil
}

// shown returns a path for messages: relative to the directory of the code, with slashes.
func (a *app) shown(path string) string {
	if below, err := filepath.Rel(a.Dir, path); err == nil {
		path = below
	}
	return filepath.ToSlash(path)
}

// derive writes a file unless it is up to date, or with check only reports it.
func (a *app) derive(file derivedFile, check bool) (changed bool, err error) {
	path := filepath.Join(a.Dir, file.path)
	existing, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if bytes.Equal(existing, file.data) {
		return false, nil
	}
	if check {
		fmt.Fprintf(a.Err, "%s is stale\n", file.path)
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return true, err
	}
	fmt.Fprintln(a.Out, "wrote", file.path)
	return true, os.WriteFile(path, file.data, 0o644)
}
