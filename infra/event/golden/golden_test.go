package golden_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/golden"
)

type opened struct {
	ID    string `json:"id"              minLength:"1"`
	Title string `json:"title,omitempty"`
}

type closed struct {
	ID string `json:"id" minLength:"1"`
}

type numbered struct {
	ID int `json:"id" min:"1"`
}

// product returns the types of a product that defines what each function adds.
func product(define ...func(*event.Namespace)) []*event.Info {
	n := event.NewNamespace("com.example.desk", "https://desk.example.com/schemas")
	for _, d := range define {
		d(n)
	}
	return n.Types()
}

func ticketOpened(n *event.Namespace) {
	event.Define(
		n,
		"tickets.opened",
		1,
		event.Fact,
		"A ticket was opened.",
		opened{ID: "1", Title: "t"},
		opened{ID: "1"},
	)
}

func ticketClosed(n *event.Namespace) {
	event.Define(n, "tickets.closed", 1, event.Fact, "A ticket was closed.", closed{ID: "1"})
}

func ticketRaised(n *event.Namespace) {
	event.Define(n, "tickets.raised", 1, event.Fact, "A ticket was raised.", closed{ID: "1"})
}

func ticketNumbered(n *event.Namespace) {
	event.Define(n, "tickets.opened", 1, event.Fact, "A ticket was opened.", numbered{ID: 1})
}

func agentAssigned(n *event.Namespace) {
	event.Define(n, "agents.assigned", 1, event.Fact, "An agent was assigned.", closed{ID: "1"})
}

// update updates the recordings and returns the names of the files that it wrote and removed.
func update(t *testing.T, dir string, types []*event.Info) (written, removed []string) {
	t.Helper()
	w, r, err := golden.Update(dir, types)
	if err != nil {
		t.Fatal(err)
	}
	return names(dir, w), names(dir, r)
}

func names(dir string, paths []string) (all []string) {
	for _, p := range paths {
		name, _ := filepath.Rel(dir, p)
		all = append(all, filepath.ToSlash(name))
	}
	return all
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// wantErrors checks that Check returns one error with each text, in this order.
func wantErrors(t *testing.T, dir string, types []*event.Info, texts ...string) {
	t.Helper()
	errs := golden.Check(dir, types)
	if len(errs) != len(texts) {
		t.Fatalf("got %v, want %d errors", errs, len(texts))
	}
	for i, text := range texts {
		if !strings.Contains(errs[i].Error(), text) {
			t.Errorf("got %v, want %s", errs[i], text)
		}
	}
}

// What is not recorded is missing until Update has recorded it, a file for each function.
func TestRecord(t *testing.T) {
	dir, types := filepath.Join(t.TempDir(), "testdata"), product(ticketOpened, agentAssigned)
	wantErrors(t, dir, types,
		"agents.assigned.v1: the schema is not recorded", `agents.assigned.v1: example "full" is not recorded`,
		"tickets.opened.v1: the schema is not recorded", `example "full"`, `example "minimal"`)
	written, removed := update(t, dir, types)
	want(t, "written", written, "agents.json", "tickets.json")
	want(t, "removed", removed)
	wantErrors(t, dir, types)
	written, _ = update(t, dir, types)
	want(t, "written a second time", written)
}

// Where there is no repository every recording stays, and what is new comes into a file beside it.
func TestWithoutGitNothingIsReplaced(t *testing.T) {
	dir := t.TempDir()
	update(t, dir, product(ticketOpened))
	written, removed := update(t, dir, product(ticketOpened, ticketClosed))
	want(t, "written", written, "tickets-2.json")
	want(t, "removed", removed)
	wantErrors(t, dir, product(ticketOpened, ticketClosed))

	update(t, dir, product(ticketNumbered))
	wantErrors(
		t,
		dir,
		product(ticketNumbered),
		"tickets-2.json: com.example.desk.tickets.closed.v1 is not defined any more",
		"$.id must be an integer",
		"$.id must be an integer",
		"$.id changed its type",
		"$.title was removed",
	)
}

// Until it is committed a type can be renamed and changed in any way.
func TestDraftIsReplaced(t *testing.T) {
	dir := repository(t)
	update(t, dir, product(ticketOpened, agentAssigned))
	git(t, dir, "add", ".") // staged is not committed
	written, removed := update(t, dir, product(ticketRaised))
	want(t, "written", written, "tickets.json")
	want(t, "removed", removed, "agents.json")
	wantErrors(t, dir, product(ticketRaised))

	update(t, dir, product(ticketOpened))
	written, removed = update(t, dir, product(ticketNumbered))
	want(t, "written", written, "tickets.json")
	want(t, "removed", removed)
	wantErrors(t, dir, product(ticketNumbered))
}

// What was committed, on any branch and however long ago, stays: a type that is gone is a violation that Update leaves.
func TestCommittedStays(t *testing.T) {
	dir := repository(t)
	update(t, dir, product(ticketOpened))
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "--message", "tickets")
	git(t, dir, "rm", "--quiet", "--cached", "tickets.json")
	git(t, dir, "commit", "--quiet", "--message", "not in git any more")
	before := read(t, dir, "tickets.json")

	written, removed := update(t, dir, product(ticketRaised))
	want(t, "written", written, "tickets-2.json")
	want(t, "removed", removed)
	wantErrors(
		t,
		dir,
		product(ticketRaised),
		"tickets.json: com.example.desk.tickets.opened.v1 is not defined any more",
	)

	written, removed = update(t, dir, product(ticketOpened, ticketClosed))
	want(t, "written", written, "tickets-2.json")
	want(t, "removed", removed)
	wantErrors(t, dir, product(ticketOpened, ticketClosed))
	if got := read(t, dir, "tickets.json"); got != before {
		t.Errorf("the committed file was changed:\n%s", got)
	}
}

// The folders of types of the older form are read, and a draft among them is removed.
func TestFolders(t *testing.T) {
	dir := repository(t)
	schema := `{"$id":"x","type":"object","properties":{"id":{"type":"string","minLength":1}},"required":["id"]}`
	for _, name := range []string{"com.example.desk.tickets.closed.v1", "com.example.desk.agents.assigned.v1"} {
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "schema.json"), []byte(schema), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "add", "com.example.desk.tickets.closed.v1")
	git(t, dir, "commit", "--quiet", "--message", "tickets")

	written, removed := update(t, dir, product(ticketNumbered))
	want(t, "written", written, "tickets.json")
	want(t, "removed", removed, "com.example.desk.agents.assigned.v1/schema.json")
	wantErrors(
		t,
		dir,
		product(ticketNumbered),
		"com.example.desk.tickets.closed.v1: com.example.desk.tickets.closed.v1 is not defined any more",
	)
	if _, err := os.Stat(filepath.Join(dir, "com.example.desk.agents.assigned.v1")); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
}

// A file that cannot be read is an error, and Update changes nothing then.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tickets.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := golden.Update(dir, product(ticketOpened)); err == nil ||
		!strings.Contains(err.Error(), "tickets.json") {
		t.Errorf("got %v", err)
	}
}

func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "--quiet")
	return dir
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	c := exec.Command("git", append([]string{"-C", dir, "-c", "commit.gpgsign=false"}, args...)...)
	c.Env = append(
		os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada",
		"GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@example.com",
	)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
