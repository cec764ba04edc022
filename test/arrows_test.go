// Package test holds what spans functions.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/ebb-dev/ebb/"

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// wrong says why an import points the wrong way; empty when it does not.
func wrong(from, to string) string {
	from, ours := strings.TrimPrefix(from, module), strings.HasPrefix(to, module)
	to = strings.TrimPrefix(to, module)
	switch {
	case from == "events" && ours:
		return "events imports the standard library and the CloudEvents SDK only"
	case from == "events" && strings.Contains(strings.SplitN(to, "/", 2)[0], ".") && !strings.HasPrefix(to, "github.com/cloudevents/sdk-go/v2"):
		return "events imports the standard library and the CloudEvents SDK only"
	case !ours:
		return ""
	case strings.HasPrefix(from, "functions/") && strings.HasPrefix(to, "functions/") && capability(from) != capability(to):
		return "a function never imports another"
	case strings.HasPrefix(from, "functions/") && (driver(to) != "" || to == chooser):
		return "a function does not choose the driver of a port"
	case strings.HasPrefix(from, "infra/") && strings.HasPrefix(to, "functions"):
		return "the kit knows no capability"
	case driver(from) != "" && (driver(to) != "" && driver(from) != driver(to) || to == chooser):
		return "a driver knows its port only"
	case !strings.HasPrefix(from, "cmd/") && strings.HasPrefix(to, "cmd/"):
		return "nobody imports a command"
	}
	return ""
}

// chooser opens any store by its URL: it is no driver, and for those who compose.
const chooser = "infra/store/open"

func capability(path string) string { return strings.Split(path, "/")[1] }

// driver is the port's driver that a package is part of; empty when it is part of none.
func driver(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != "infra" || path == chooser || parts[2] == "internal" || strings.HasSuffix(parts[2], "test") {
		return ""
	}
	switch parts[1] {
	case "store", "broker":
		return strings.Join(parts[:3], "/")
	}
	return ""
}

// Imports point one way: functions to events and infra, drivers to their port, and only commands,
// hosts and tests put the parts together.
func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		for _, to := range p.Imports {
			if why := wrong(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", strings.TrimPrefix(p.ImportPath, module), strings.TrimPrefix(to, module), why)
			}
		}
	}
}

// The rule itself refuses what it should.
func TestWrongArrows(t *testing.T) {
	for _, c := range [][2]string{
		{"events", module + "infra/fault"},
		{"events", "github.com/google/uuid"},
		{"functions/users", module + "functions/orders"},
		{"functions/users", module + "infra/store/sqlite"},
		{"infra/function", module + "functions/users"},
		{"infra/store/sqlite", module + "infra/store/memory"},
		{"functions/users", module + "infra/store/open"},
		{"infra/store/sqlite", module + "infra/store/open"},
		{"infra/host/local", module + "cmd/ebb"},
	} {
		if wrong(module+c[0], c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	if why := wrong(module+"functions/orders", module+"infra/saga"); why != "" {
		t.Errorf("orders may not use a saga: %s", why)
	}
}
