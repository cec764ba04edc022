package functiontest_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type vote struct {
	Poll  string `json:"poll"`
	Voter string `json:"voter"`
}

var (
	polls   = event.NewNamespace("com.example.polls", "https://example.com/schemas/")
	voted   = event.Define(polls, "voters.voted", 1, event.Fact, "A voter has voted.", vote{Poll: "p", Voter: "ada"})
	counted = event.Define(polls, "polls.counted", 1, event.Fact, "A vote counts.", vote{Poll: "p", Voter: "ada"})
	closed  = event.Define(polls, "polls.closed", 1, event.Fact, "A poll has ended.", vote{Poll: "p", Voter: "ada"})
)

// pollDefect is what is wrong with a function that counts votes.
type pollDefect string

const (
	countsInMemory  pollDefect = "counts in memory"
	chargesByRandom pollDefect = "charges under a random key"
	dependsOnOrder  pollDefect = "depends on the order of a batch"
)

// pollFunction counts votes, charges for each poll that is opened, and closes a poll after an hour.
type pollFunction struct {
	defect   pollDefect
	charges  map[string]bool // at the provider, by key
	inMemory map[string]int
	first    string
	polls    *store.Collection[poll]
}

type poll struct {
	Votes  int  `json:"votes"`
	Closed bool `json:"closed,omitempty"`
}

func (p *pollFunction) create(env function.Env) (*function.Function, error) {
	// An instance has its own memory.
	p = &pollFunction{defect: p.defect, charges: p.charges, inMemory: map[string]int{"old": 7}}
	f := function.New("polls", env)
	p.polls = function.Collection[poll](f, "polls")
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/polls/{id}"}, p.open)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/polls/{id}"}, p.get)
	function.On(f, voted, p.count)
	function.On(f, closed, p.end)
	function.Emits(f, counted, closed)
	return f, nil
}

type pollInput struct {
	ID string `path:"id"`
}

type pollOutput struct {
	Body struct {
		ID    string `json:"id"`
		Votes int    `json:"votes"`
		Done  bool   `json:"done"`
	}
}

func (p *pollFunction) open(ctx context.Context, tx *function.Tx, in *pollInput) (*pollOutput, error) {
	key := tx.Key("charge")
	if p.defect == chargesByRandom {
		key = uuid.NewString()
	}
	p.charges[key] = true
	if _, err := tx.After(tx.Now().Add(time.Hour), closed.New(in.ID, vote{Poll: in.ID})); err != nil {
		return nil, err
	}
	out := &pollOutput{}
	out.Body.ID = in.ID
	return out, p.polls.Put(ctx, tx, in.ID, poll{})
}

func (p *pollFunction) get(ctx context.Context, tx *function.Tx, in *pollInput) (*pollOutput, error) {
	found, err := p.polls.Get(ctx, tx, in.ID)
	out := &pollOutput{}
	out.Body.ID, out.Body.Votes, out.Body.Done = in.ID, found.Votes, found.Closed
	if p.defect == countsInMemory {
		out.Body.Votes = p.inMemory[in.ID]
	}
	return out, err
}

func (p *pollFunction) count(ctx context.Context, tx *function.Tx, v vote) error {
	found, err := p.polls.Get(ctx, tx, v.Poll)
	if err != nil {
		return err
	}
	p.inMemory[v.Poll]++
	if p.defect == dependsOnOrder {
		if p.first == "" {
			p.first = v.Poll
		}
		found.Votes += map[bool]int{true: 0, false: 5}[p.first == "p"]
	}
	found.Votes++
	tx.Emit(counted.New(v.Poll, v))
	return p.polls.Put(ctx, tx, v.Poll, found)
}

func (p *pollFunction) end(ctx context.Context, tx *function.Tx, v vote) error {
	found, err := p.polls.Get(ctx, tx, v.Poll)
	if err != nil {
		return err
	}
	found.Closed = true
	return p.polls.Put(ctx, tx, v.Poll, found)
}

// scenario opens two polls, votes, and waits until they are closed.
func (p *pollFunction) scenario(h *functiontest.Harness) {
	clear(p.charges)
	h.Stored("polls", "old", `{"votes":7,"colour":"red"}`)
	for _, id := range []string{"p", "q"} {
		h.Call("POST", "/api/polls/"+id, functiontest.As("ada"), nil).Expect(http.StatusOK)
	}
	if len(p.charges) != 2 {
		h.T.Errorf("got %d charges, want 2", len(p.charges))
	}
	h.MustDeliver(voted.New("p", vote{Poll: "p", Voter: "ada"}), voted.New("q", vote{Poll: "q", Voter: "ada"}),
		voted.New("p", vote{Poll: "p", Voter: "bob"}), voted.New("old", vote{Poll: "old", Voter: "ada"}))
	want := []string{"polls.counted.v1", "polls.counted.v1", "polls.counted.v1", "polls.counted.v1"}
	got := slices.DeleteFunc(functiontest.Types(h.Emitted()),
		func(name string) bool { return name == "clock.schedule.v1" })
	if !slices.Equal(got, want) {
		h.T.Errorf("emitted %v, want %v", got, want)
	}
	h.Advance(2 * time.Hour)
	for id, votes := range map[string]int{"p": 2, "q": 1, "old": 8} {
		var out struct {
			Votes int
			Done  bool
		}
		h.Call("GET", "/api/polls/"+id, functiontest.As("ada"), nil).Expect(http.StatusOK).JSON(&out)
		if out.Votes != votes || out.Done != (id != "old") {
			h.T.Errorf("poll %s: got %+v, want %d votes", id, out, votes)
		}
	}
}

const defectVariable = "EBB_TEST_POLL_DEFECT"

// TestUnderFaults holds for a function without a defect. TestUnderFaultsFindsDefects runs it with one.
func TestUnderFaults(t *testing.T) {
	p := &pollFunction{defect: pollDefect(os.Getenv(defectVariable)), charges: map[string]bool{}}
	functiontest.UnderFaults(t, p.create, p.scenario, functiontest.Once())
}

func TestUnderFaultsFindsDefects(t *testing.T) {
	for defect, where := range map[pollDefect]string{
		countsInMemory: "every_step_meets_a_new_instance", chargesByRandom: "another_was_faster",
		dependsOnOrder: "in_another_order",
	} {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestUnderFaults$", "-test.v")
		c.Env = append(os.Environ(), defectVariable+"="+string(defect))
		out, err := c.CombinedOutput()
		failed := 0
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "--- FAIL: TestUnderFaults/") && strings.Contains(line, where) {
				failed++
			}
		}
		if err == nil || failed == 0 {
			t.Errorf("a function that %s is not found under %q: %v\n%s", defect, where, err, out)
		}
	}
}
