package pack

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Flags are those of go build that the bytes of a binary depend on. Version control is left out: a commit that changes no
// code of the function changes no byte of it either, so that nodes keep the layer they have; the image's labels
// and its bill of materials name the commit.
var Flags = []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"}

// Platform is what a binary runs on.
type Platform struct{ OS, Arch string }

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// platforms are the ones that can be built, with the level of the instruction set, which must not come from the environment.
var platforms = map[Platform]string{
	{"linux", "amd64"}: "GOAMD64=v1",
	{"linux", "arm64"}: "GOARM64=v8.0",
}

// ParsePlatforms reads a list such as linux/amd64,linux/arm64.
func ParsePlatforms(list string) ([]Platform, error) {
	var all []Platform
	for s := range strings.SplitSeq(list, ",") {
		os, arch, _ := strings.Cut(strings.TrimSpace(s), "/")
		p := Platform{os, arch}
		if _, ok := platforms[p]; !ok {
			return nil, fmt.Errorf("no image can be built for %q: want linux/amd64, linux/arm64 or both", s)
		}
		for _, other := range all {
			if other == p {
				return nil, fmt.Errorf("platform %s is there twice", p)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// Binary is a built command.
type Binary struct {
	Platform Platform
	Name     string // of the command
	Bytes    []byte
	Info     *debug.BuildInfo
	Licenses map[string]string // of the modules in it, by path@version
}

// Build builds the one command that pkg names in the module in dir. What the compiler says goes into the error.
func Build(ctx context.Context, dir, pkg string, p Platform) (Binary, error) {
	importPath, err := command(ctx, dir, pkg, p)
	if err != nil {
		return Binary{}, err
	}
	b := Binary{Platform: p, Name: path.Base(importPath)}
	tmp, err := os.MkdirTemp("", "image-")
	if err != nil {
		return Binary{}, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, b.Name)
	if _, err := run(ctx, dir, p, append(append([]string{"build", "-o", out}, Flags...), "--", importPath)...); err != nil {
		return Binary{}, fmt.Errorf("%s does not build for %s: %w", pkg, p, err)
	}
	if b.Bytes, err = os.ReadFile(out); err != nil {
		return Binary{}, err
	}
	if b.Info, err = buildinfo.Read(bytes.NewReader(b.Bytes)); err != nil {
		return Binary{}, fmt.Errorf("read the build info of %s: %w", pkg, err)
	}
	b.Licenses, err = licenses(ctx, dir, importPath, p)
	return b, err
}

// command is the import path of the command that pkg names.
func command(ctx context.Context, dir, pkg string, p Platform) (string, error) {
	out, err := run(ctx, dir, p, "list", "-e", "-f", "{{.ImportPath}} {{.Name}}", "--", pkg)
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", pkg, err)
	}
	found := strings.Split(strings.TrimSpace(out), "\n")
	if len(found) != 1 {
		return "", fmt.Errorf("%s are %d packages: an image is made of one command", pkg, len(found))
	}
	switch importPath, name, _ := strings.Cut(found[0], " "); name {
	case "main":
		return importPath, nil
	case "":
		return "", fmt.Errorf("there is no package %s", pkg)
	default:
		return "", fmt.Errorf("%s is a library (package %s): an image is made of a command", pkg, name)
	}
}

// licenses looks into the folders of the modules that a command is made of.
func licenses(ctx context.Context, dir, importPath string, p Platform) (map[string]string, error) {
	const line = "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}\t{{with .Replace}}{{.Dir}}{{else}}{{.Dir}}{{end}}{{end}}{{end}}"
	out, err := run(ctx, dir, p, "list", "-deps", "-f", line, "--", importPath)
	if err != nil {
		return nil, fmt.Errorf("list the modules of %s: %w", importPath, err)
	}
	all := make(map[string]string)
	for l := range strings.SplitSeq(out, "\n") {
		module, folder, ok := strings.Cut(l, "\t")
		if _, seen := all[module]; ok && !seen {
			all[module] = License(folder)
		}
	}
	return all, nil
}

// run runs the go command with all that the bytes depend on set, whatever the environment says.
func run(ctx context.Context, dir string, p Platform, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// GOFLAGS is set to something harmless: an empty one would be filled from go env's file.
	cmd.Env = append(os.Environ(), "GOOS="+p.OS, "GOARCH="+p.Arch, platforms[p], "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false",
		"GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
