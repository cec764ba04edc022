package policyfile_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ebb-dev/ebb/infra/gateway/policyfile"
)

// taker takes documents, and refuses those that begin with a "!".
type taker chan string

func (t taker) take(_ string, document []byte) error {
	t <- string(document)
	if document[0] == '!' {
		return errors.New("refused")
	}
	return nil
}

// refusals is where errors are logged.
type refusals chan string

func (r refusals) Write(line []byte) (int, error) {
	r <- string(line)
	return len(line), nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace writes another file in the place of one, so that the content is never read in part.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// watch opens and starts a file, and returns what takes its documents and where errors are logged.
func watch(t *testing.T, path string) (taker, refusals) {
	t.Helper()
	documents, logged := make(taker, 16), make(refusals, 16)
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelError}))
	f, err := policyfile.Open(path, documents.take, log)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one does nothing
		if err := f.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for range 2 {
			if err := f.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	want(t, documents, "first")
	return documents, logged
}

func want(t *testing.T, documents taker, text string) {
	t.Helper()
	if got := <-documents; got != text {
		t.Fatalf("got %q, want %q", got, text)
	}
}

// A file that is written anew, or replaced by another one, is applied.
func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, "first")
	documents, _ := watch(t, path)
	write(t, path, "second")
	want(t, documents, "second")
	replace(t, path, "third")
	want(t, documents, "third")
}

// Kubernetes replaces the files of a ConfigMap all at once, by moving the symbolic link ..data.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	for version, text := range map[string]string{"..1": "first", "..2": "second"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "policy.yaml"), text)
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/policy.yaml", "policy.yaml")
	documents, _ := watch(t, filepath.Join(dir, "policy.yaml"))
	link("..2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	want(t, documents, "second")
}

// A file that is refused, empty or missing is logged, and the next one is applied.
func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, "first")
	documents, logged := watch(t, path)
	replace(t, path, "!second")
	want(t, documents, "!second")
	if line := <-logged; !strings.Contains(line, "refused") {
		t.Errorf("logged %s", line)
	}
	replace(t, path, "")
	if line := <-logged; !strings.Contains(line, "empty") {
		t.Errorf("logged %s", line)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if line := <-logged; !strings.Contains(line, "no such file") {
		t.Errorf("logged %s", line)
	}
	replace(t, path, "third")
	want(t, documents, "third")
}

// SIGHUP has the file applied, even if it is the same.
func TestHangup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, "first")
	documents, _ := watch(t, path)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	want(t, documents, "first")
}

// Open fails when the first content is not accepted.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	documents := make(taker, 1)
	if _, err := policyfile.Open(path, documents.take, slog.Default()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	write(t, path, "\n")
	_, err := policyfile.Open(path, documents.take, slog.Default())
	if err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("empty: got %v", err)
	}
	write(t, path, "!")
	if _, err := policyfile.Open(path, documents.take, slog.Default()); err == nil || err.Error() != "refused" {
		t.Errorf("refused: got %v", err)
	}
}
