package run_test

import (
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/run"
	"github.com/ebb-dev/ebb/infra/system"
)

// What is checked before a change is taken over: the function's settings, its delivery, the host's and the log level.
func TestCheck(t *testing.T) {
	declared, err := desk(nil).Declare()
	if err != nil {
		t.Fatal(err)
	}
	check := run.Check(declared)
	for variable, value := range map[string]string{
		"EBB_SENDERS": "system:serviceaccount:a:b", "EBB_DELIVERY": "timeout=soon", "EBB_LOG_LEVEL": "loud", "": "",
	} {
		err := check("reader", config.Map(map[string]string{variable: value}))
		if (err == nil) != (variable == "") || err != nil && !strings.Contains(err.Error(), variable) {
			t.Errorf("%s: got %v", variable, err)
		}
	}
}

// A function gets its settings from the file of EBB_CONFIG, beneath the environment; what is wrong there is named with
// its line, also where only the host can tell.
func TestSettingsOfAFile(t *testing.T) {
	type settings struct {
		Text string `envconfig:"EBB_BELL_TEXT" default:"ding" desc:"what it says"`
	}
	texts := make(chan string, 10)
	var told func() config.Report // the last
	bell := system.System{Name: "bell", Functions: []system.Definition{{Name: "bell",
		New: func(env function.Env) (*function.Function, error) {
			f := function.New("bell", env)
			set, err := function.Configure[settings](f)
			texts <- set.Text
			told = env.Settings
			return f, err
		}}}}
	path := filepath.Join(t.TempDir(), "bell.yaml")
	try := func(text string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := run.New(bell)
		vars := map[string]string{"FUNCTION": "bell", "EBB_CONFIG": path}
		err := f.Start(t.Context(), vars)
		if err == nil {
			f.Handle(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			err = f.Stop(t.Context())
		}
		return err
	}
	if err := try("functions:\n  bell:\n    EBB_BELL_TEXT: dong\n"); err != nil {
		t.Fatal(err)
	}
	if <-texts; <-texts != "dong" { // the first is that of the declaration
		t.Error("the text is not that of the file")
	}
	origins := func() string {
		of := map[string]string{}
		for _, s := range told().Settings {
			of[s.Variable] = s.Origin
		}
		return of["EBB_BELL_TEXT"] + " " + of["EBB_ISSUER"]
	}
	if got := origins(); got != "bell.yaml:3 default" {
		t.Errorf("the origins are %q", got)
	}
	alone := run.New(bell)
	if err := alone.Start(t.Context(), map[string]string{"FUNCTION": "bell", "EBB_ISSUER": "me"}); err != nil {
		t.Fatal(err)
	}
	if <-texts; origins() != "default environment" {
		t.Errorf("without a file the origins are %q", origins())
	}
	if err := alone.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"EBB_BELL_TXT: dong\n":           `bell.yaml:1: EBB_BELL_TXT: unknown field (did you mean "EBB_BELL_TEXT"?)`,
		"\nEBB_STORE: 'nowhere:'\n":      "(bell.yaml:2)",
		"\n\nEBB_DELIVERY: timeout=soon": "(bell.yaml:3)",
		"EBB_LOG_LEVEL: loud":            "EBB_LOG_LEVEL",
	} {
		if err := try(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	missing := config.Map(map[string]string{"FUNCTION": "bell", "EBB_CONFIG": path + "x"})
	err := run.Serve(t.Context(), bell, missing, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "EBB_CONFIG") {
		t.Errorf("got %v", err)
	}
}
