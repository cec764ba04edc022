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

// Flags are the flags of go build. Version control is left out, so that a commit that does not change the command's
// code does not change its bytes, and nodes reuse the layer. The image's labels and its bill of materials name the
// commit.
var Flags = []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"}

// Platform is an operating system and an architecture.
type Platform struct{ OS, Arch string }

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// platforms holds the supported platforms with the level of their instruction set, which must not come from the
// environment.
var platforms = map[Platform]string{
	{"linux", "amd64"}: "GOAMD64=v1",
	{"linux", "arm64"}: "GOARM64=v8.0",
}

// ParsePlatforms parses a list such as linux/amd64,linux/arm64.
func ParsePlatforms(list string) ([]Platform, error) {
	var all []Platform
	for s := range strings.SplitSeq(list, ",") {
		os, arch, _ := strings.Cut(strings.TrimSpace(s), "/")
		p := Platform{os, arch}
		if _, ok := platforms[p]; !ok {
			return nil, fmt.Errorf("unknown platform %q (use linux/amd64, linux/arm64 or both)", s)
		}
		for _, other := range all {
			if other == p {
				return nil, fmt.Errorf("duplicate platform %s", p)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// Binary is a built command.
type Binary struct {
	Platform Platform
	Name     string // the command's name
	Bytes    []byte
	Info     *debug.BuildInfo
	Licenses map[string]string // the licenses of its modules, by path@version
}

// Build builds the command that pkg names in the module in dir. The error contains the compiler's output.
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
	if _, err := run(ctx, dir, p, append(append([]string{"build", "-o", out}, Flags...), "--",
		importPath)...); err != nil {
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

// command returns the import path of the command that pkg names.
func command(ctx context.Context, dir, pkg string, p Platform) (string, error) {
	out, err := run(ctx, dir, p, "list", "-e", "-f", "{{.ImportPath}} {{.Name}}", "--", pkg)
	if err != nil {
		return "", fmt.Errorf("list %s: %w", pkg, err)
	}
	found := strings.Split(strings.TrimSpace(out), "\n")
	if len(found) != 1 {
		return "", fmt.Errorf("%s matches %d packages: want one command", pkg, len(found))
	}
	switch importPath, name, _ := strings.Cut(found[0], " "); name {
	case "main":
		return importPath, nil
	case "":
		return "", fmt.Errorf("unknown package %s", pkg)
	default:
		return "", fmt.Errorf("%s is a library (package %s): want a command", pkg, name)
	}
}

// licenses returns the licenses of the modules of a command, from their folders.
func licenses(ctx context.Context, dir, importPath string, p Platform) (map[string]string, error) {
	const line = "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}\t{{with " +
		".Replace}}{{.Dir}}{{else}}{{.Dir}}{{end}}{{end}}{{end}}"
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

// run runs the go command with fixed values of all variables that the binary depends on.
func run(ctx context.Context, dir string, p Platform, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// GOFLAGS has a harmless value, because an empty one would be filled from go env's file.
	cmd.Env = append(os.Environ(), "GOOS="+p.OS, "GOARCH="+p.Arch, platforms[p], "CGO_ENABLED=0",
		"GOFLAGS=-buildvcs=false",
		"GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
