package cli

import (
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// terminal returns an app that treats its output as a terminal.
func onTerminal(t *testing.T, vars map[string]string) (*app, *syncBuffer, *syncBuffer) {
	p, out, errs := process(t.TempDir(), vars)
	p.Name = "ebb"
	return &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return true }}, out, errs
}

// Only a terminal without NO_COLOR gets colours.
func TestColour(t *testing.T) {
	for name, test := range map[string]struct {
		terminal bool
		vars     map[string]string
		want     string
	}{
		"a terminal": {true, nil, "\x1b[1mA\x1b[0m\n"},
		"NO_COLOR":   {true, map[string]string{"NO_COLOR": "1"}, "A\n"},
		"a file":     {false, nil, "A\n"},
	} {
		a, out, _ := onTerminal(t, test.vars)
		a.terminal = func(io.Writer) bool { return test.terminal }
		a.table("A").flush()
		if out.String() != test.want {
			t.Errorf("%s: got %q", name, out)
		}
	}
}

// A terminal shows work that takes over a second, and clears the line at the end; a file gets no progress.
func TestProgress(t *testing.T) {
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		takes    time.Duration
		terminal bool
		told     bool
	}{
		"quick":     {900 * time.Millisecond, true, false},
		"slow":      {1500 * time.Millisecond, true, true},
		"to a file": {time.Minute, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _, errs := onTerminal(t, nil)
			a.terminal = func(io.Writer) bool { return test.terminal }
			err := a.during("brewing tea", func() error { time.Sleep(test.takes); return failed })
			if err != failed || strings.Contains(errs.String(), "brewing tea (1.2 s)") != test.told ||
				(errs.String() == "") == test.told {
				t.Errorf("%s: got %v, %q", name, err, errs)
			}
			if test.told && !strings.HasSuffix(errs.String(), "\r\x1b[K") {
				t.Errorf("%s: the line stays: %q", name, errs)
			}
		})
	}
}

// Without a terminal announced work is reported once.
func TestAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, errs := onTerminal(t, nil)
		a.terminal = func(io.Writer) bool { return false }
		if err := a.announced("compiling", func() error { time.Sleep(5 * time.Second); return nil }); err != nil ||
			errs.String() != "ebb: compiling …\n" {
			t.Errorf("got %v, %q", err, errs)
		}
	})
}

// JSON becomes YAML with its members in order, and its strings remain strings.
func TestYAML(t *testing.T) {
	got, err := yamlOf([]byte(`{"z":1,"a":[true,null,1.5,"true","1","a: b","",{}],"s":"\ud83c\udf0a\nx","e":[]}`))
	want := "z: 1\na:\n  - true\n  - null\n  - 1.5\n  - \"true\"\n  - \"1\"\n  - 'a: b'\n  - \"\"\n  - {}\n" +
		"s: \"\\U0001F30A\\nx\"\ne: []\n"
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestVersion(t *testing.T) {
	p, out, errs := process(t.TempDir(), nil)
	p.Build = &debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Path: "example.com/helpdesk", Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"},
			{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
			{Key: "vcs.modified", Value: "true"},
		},
		Deps: []*debug.Module{{Path: kitModule(), Version: "v0.9.0"}},
	}
	if code := Run(t.Context(), empty(), p, []string{"version", "-o", "json"}); code != exitOK {
		t.Fatalf("got %d, %s", code, errs)
	}
	var got version
	want := version{
		Module:  "example.com/helpdesk",
		Version: "v1.2.3",
		Commit:  "abc",
		Time:    "2026-01-02T03:04:05Z",
		Dirty:   true,
		Go:      "go1.26.8",
		Kit:     "v0.9.0",
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	p.Out = errs
	if code := Run(t.Context(), empty(), p, []string{"version"}); code != exitOK ||
		!strings.Contains(errs.String(),
			"ebb v1.2.3 (example.com/helpdesk)\ncommit abc of 2026-01-02T03:04:05Z, with changes\nkit v0.9.0\n") {
		t.Errorf("got %d, %s", code, errs)
	}
}
