// Package scaffold writes the files of a new product, and of a new function in a product: templates, filled in. It runs
// no command. What it wrote is formatted, compiles and passes its tests once the module is tidy and the derived files
// are generated.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// Kit is the module of the kit.
const Kit = "github.com/ebb-dev/ebb"

//go:embed all:templates
var templates embed.FS

// render fills the templates of a folder and returns the files by their path, which name changes as it needs.
func render(folder string, data any, name func(string) string) (map[string][]byte, error) {
	root, err := fs.Sub(templates, "templates/"+folder)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	err = fs.WalkDir(root, ".", func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fill(root, at, data)
		if err != nil {
			return fmt.Errorf("template %s: %w", at, err)
		}
		files[name(strings.TrimSuffix(at, ".tmpl"))] = content
		return nil
	})
	return files, err
}

func fill(root fs.FS, at string, data any) ([]byte, error) {
	t, err := template.ParseFS(root, at)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Option("missingkey=error").Execute(&b, data); err != nil {
		return nil, err
	}
	if strings.HasSuffix(at, ".go.tmpl") {
		return format.Source(b.Bytes())
	}
	return b.Bytes(), nil
}

// write writes files below dir and returns their paths, sorted. It writes none of them if one exists, except those that
// replace names.
func write(dir string, files map[string][]byte, replace ...string) ([]string, error) {
	paths := slices.Sorted(maps.Keys(files))
	for _, p := range paths {
		if slices.Contains(replace, p) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, p)); err == nil {
			return nil, fmt.Errorf("%s exists already", p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, p := range paths {
		at := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return nil, err
		}
		mode := fs.FileMode(0o644)
		if path.Dir(p) == ".ci" {
			mode = 0o755
		}
		if err := os.WriteFile(at, files[p], mode); err != nil {
			return nil, err
		}
	}
	return paths, nil
}
