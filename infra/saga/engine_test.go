package saga

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

type order struct{ Instance }

// orderData is the data of every event in these tests.
type orderData struct {
	OrderID string `json:"order_id"`
}

// types are the commands of the saga and the events that answer them.
var types = func() (t struct {
	reserve, reserved, refused, release, released, note, noted   event.Type[orderData]
	capture, captured, declined, refund, refunded, ship, shipped event.Type[orderData]
	pack, packed, unpack, unpacked, approved, rejected           event.Type[orderData]
}) {
	n := event.NewNamespace("com.example", "https://example.com/schemas/")
	command := func(name string) event.Type[orderData] {
		return event.Define(n, name, 1, event.Command, "A command.", orderData{OrderID: "o1"})
	}
	fact := func(name string) event.Type[orderData] {
		return event.Define(n, name, 1, event.Fact, "A fact.", orderData{OrderID: "o1"})
	}
	t.reserve, t.reserved, t.refused = command("inventory.reserve"), fact("inventory.reserved"), fact("inventory.refused")
	t.release, t.released = command("inventory.release"), fact("inventory.released")
	t.note, t.noted = command("notifications.note"), fact("notifications.sent")
	t.capture, t.captured, t.declined = command("payments.capture"), fact("payments.captured"), fact("payments.declined")
	t.refund, t.refunded = command("payments.refund"), fact("payments.refunded")
	t.ship, t.shipped = command("inventory.ship"), fact("inventory.shipped")
	t.pack, t.packed, t.unpack, t.unpacked = command("depot.pack"), fact("depot.packed"), command("depot.unpack"),
		fact("depot.unpacked")
	t.approved, t.rejected = fact("people.approved"), fact("people.rejected")
	return t
}()

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Each case is a list of inputs and the commands after each: "+5s" advances the time and calls Expired, "cancel" calls
// Cancel, anything else is an event for Handle.
func TestProgress(t *testing.T) {
	const (
		reserved, refused, released = "inventory.reserved", "inventory.refused", "inventory.released"
		sent, shipped               = "notifications.sent", "inventory.shipped"
		captured, declined          = "payments.captured", "payments.declined"
		refunded                    = "payments.refunded"
	)
	type beat struct{ in, asks string } // asks "-": nothing changed
	tests := map[string]struct {
		beats  []beat
		status Status
		states string
		reason string
	}{
		"every step is done": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {captured, "ship"}, {shipped, ""}},
			Completed, "done done done done", "",
		},
		"nothing after the end changes anything": {
			[]beat{
				{reserved, "note"},
				{sent, "capture"},
				{captured, "ship"},
				{shipped, ""},
				{shipped, "-"},
				{refused, "-"},
				{"cancel", "-"},
				{"+1h", "-"},
			},
			Completed, "done done done done", "",
		},
		"what is repeated or comes too early changes nothing": {
			[]beat{{captured, "-"}, {released, "-"}, {reserved, "note"}, {reserved, "-"}, {refused, "-"}, {shipped, "-"}},
			Running, "done running todo todo", "",
		},
		"the first step fails: there is nothing to undo": {
			[]beat{{refused, ""}, {reserved, "-"}},
			Reversed, "failed todo todo todo", "because of inventory.refused",
		},
		"a later step fails: what was done before is undone, the failed step is not": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {declined, "release"}, {refunded, "-"}, {released, ""}},
			Reversed, "undone undone failed todo", "because of payments.declined",
		},
		"a deadline passes: the step in doubt is undone first": {
			[]beat{
				{reserved, "note"},
				{sent, "capture"},
				{"+29s", "-"},
				{"+1s", "refund"},
				{captured, "-"},
				{released, "-"},
				{refunded, "release"},
				{released, ""},
			},
			Reversed, "undone undone undone todo", "step capture timed out",
		},
		"an undo that is not answered is asked for again, and again": {
			[]beat{{"cancel", "release"}, {"+9s", "-"}, {"+1s", "release"}, {"+9s", "-"}, {"+1s", "release"}, {released, ""}},
			Reversed, "undone todo todo todo", "the customer says so",
		},
		"a second cancel changes nothing": {
			[]beat{{"cancel", "release"}, {"cancel", "-"}},
			Undoing, "undoing todo todo todo", "the customer says so",
		},
		"a cancel while the pivot is in doubt undoes it": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {"cancel", "refund"}},
			Undoing, "done done undoing todo", "the customer says so",
		},
		"after the pivot a cancel comes too late and a deadline only asks again": {
			[]beat{
				{reserved, "note"},
				{sent, "capture"},
				{captured, "ship"},
				{"cancel", "-"},
				{"+40s", "ship"},
				{"+40s", "ship"},
				{shipped, ""},
			},
			Completed, "done done done done", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, Declaration[order]{Steps: steps()})
			if got := m.begin(t); got != "reserve" {
				t.Fatalf("starting asks for %q, want reserve", got)
			}
			for n, b := range tt.beats {
				var got string
				switch {
				case b.in == "cancel":
					got = m.cancel(t)
				case b.in[0] == '+':
					d, _ := time.ParseDuration(b.in[1:])
					got = m.pass(t, d)
				default:
					got = m.hear(t, answerOf(b.in, ""))
				}
				if got != b.asks {
					t.Fatalf("beat %d (%s) asks for %q, want %q", n, b.in, got, b.asks)
				}
			}
			p := m.state.Saga
			if got := m.states(); got != tt.states || p.Status != tt.status || p.Reason != tt.reason {
				t.Errorf("ended %s, %q, reason %q; want %s, %q, %q", p.Status, got, p.Reason, tt.status, tt.states, tt.reason)
			}
			if p.Status.Ended() != (p.Step == "" && p.Due.IsZero()) {
				t.Errorf("%s awaits %q until %v", p.Status, p.Step, p.Due)
			}
		})
	}
}

// world stands for the functions that carry out the commands. They are idempotent and store an undo that overtakes its
// command. Their answers arrive late, twice, in any order, or are lost.
type world struct {
	held map[string]bool
	gone map[string]bool // undone, perhaps before it was done
	mail []ce.Event      // under way
}

var undoes = map[string]string{"release": "reserve", "refund": "capture"}

func (w *world) do(asked ce.Event, rnd *rand.Rand) {
	command := strings.Split(asked.Type(), ".")[3]
	answer := map[string]string{
		"reserve": "inventory.reserved", "note": "notifications.sent",
		"capture": "payments.captured", "ship": "inventory.shipped",
		"release": "inventory.released", "refund": "payments.refunded",
	}[command]
	refusal := map[string]string{"reserve": "inventory.refused", "capture": "payments.declined"}[command]
	if undone, ok := undoes[command]; ok {
		w.gone[undone], w.held[undone] = true, false
	} else if w.gone[command] || !w.held[command] && refusal != "" && rnd.IntN(4) == 0 {
		w.gone[command] = true
		answer = refusal
	} else {
		w.held[command] = true
	}
	if answer != "" {
		w.mail = append(w.mail, answerOf(answer, asked.ID()))
	}
}

// In any order, with any repetition, loss and delay, a saga ends once and holds all or nothing.
func TestEverySagaEnds(t *testing.T) {
	ends := map[Status]int{}
	for seed := range uint64(5000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := &world{held: map[string]bool{}, gone: map[string]bool{}}
		m := newMachine(t, Declaration[order]{Steps: steps()})
		var log []string
		m.begin(t)
		var ended Status
		for beat := 0; ; beat++ {
			p := &m.state.Saga
			if ended == "" && p.Status.Ended() {
				ended = p.Status
			}
			if ended != "" && p.Status != ended {
				t.Fatalf("seed %d: was %s, is %s\n%v", seed, ended, p.Status, log)
			}
			if ended != "" && len(m.asked) == 0 && len(w.mail) == 0 {
				break
			}
			if beat > 2000 {
				t.Fatalf("seed %d: has not ended: %+v\n%v", seed, p, log)
			}
			switch choice := rnd.IntN(20); {
			case choice < 9 && len(m.asked) > 0:
				n := rnd.IntN(len(m.asked))
				c := m.asked[n]
				if rnd.IntN(4) > 0 || ended != "" { // else it will be delivered again
					m.asked = append(m.asked[:n:n], m.asked[n+1:]...)
				}
				log = append(log, c.Type())
				w.do(c, rnd)
			case choice < 18 && len(w.mail) > 0:
				n := rnd.IntN(len(w.mail))
				e := w.mail[n]
				if rnd.IntN(4) > 0 || ended != "" {
					w.mail = append(w.mail[:n:n], w.mail[n+1:]...)
				}
				log = append(log, e.Type())
				m.hear(t, e)
			case choice == 18 && rnd.IntN(4) == 0:
				log = append(log, "cancel")
				m.cancel(t)
			default:
				log = append(log, "expired")
				m.pass(t, time.Duration(rnd.IntN(12))*time.Second)
			}
		}
		ends[ended]++
		want := ended == Completed
		for _, step := range []string{"reserve", "capture", "ship"} {
			if w.held[step] != want {
				t.Fatalf("seed %d: %s, yet %s is held: %v\n%v", seed, ended, step, w.held[step], log)
			}
		}
		if (m.state.Saga.Reason == "") != want {
			t.Fatalf("seed %d: %s with reason %q", seed, ended, m.state.Saga.Reason)
		}
	}
	if ends[Completed] < 100 || ends[Reversed] < 100 {
		t.Errorf("the test did not see enough of both ends: %v", ends)
	}
}

// A declaration that cannot work is refused, with everything that is not valid in it.
func TestCheck(t *testing.T) {
	ok := steps()[0]
	d := Declaration[order]{Name: "order", Version: 2, Earlier: map[int][]Step[order]{2: steps()}, Steps: []Step[order]{
		{Name: "a", Command: ok.Command},
		{Name: "a", Command: ok.Command, Done: types.reserved, Undone: types.released, Deadline: 1, Pivot: true},
		{Name: "b", Command: ok.Command, Done: types.reserved, Failed: types.reserved, Deadline: 1, Pivot: true},
		{Name: "c", After: []string{"d"}, Done: Apply(types.reserved, func(*Progress, orderData) {})},
		{Name: "d", After: []string{"a"}, Done: types.reserved},
	}}
	err := d.check()
	for _, want := range []string{
		`"a" wants the event`, `"a" wants a deadline`, `"a" is there twice`, `"a" wants an undo`,
		`"b" has one event`, `"b" is a second pivot`, `"c" comes after "d"`, `"c" has an answer for another state`,
		"earlier version 2",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in:\n%v", want, err)
		}
	}
	for _, d := range []Declaration[order]{{Name: "order"}, {Name: "An order", Steps: steps()}} {
		if d.check() == nil {
			t.Errorf("accepted: %+v", d)
		}
	}
	parallel := Declaration[order]{Name: "order", Steps: steps()}
	parallel.Steps[2].After = []string{"reserve"}
	parallel.Steps[3].After = []string{"note", "capture"}
	if err := parallel.check(); err == nil || !strings.Contains(err.Error(), `"note" runs in parallel to the pivot`) {
		t.Errorf("got %v", err)
	}
}

// The declaration is drawn as a diagram, and a progress names the steps that have not begun.
func TestPicture(t *testing.T) {
	picture := Mermaid(steps())
	for _, want := range []string{
		`state "capture (pivot)" as s3`, "[*] --> s1", "s1 --> s2: reserved", "s1 --> undone: refused",
		"s1 --> u1: deadline or cancel",
		"s2 --> u1: deadline or cancel", "s3 --> u1: declined", "s3 --> u3: deadline or cancel", "u3 --> u1: refunded",
		"u1 --> undone: released",
		"s4 --> completed: shipped", "s4 --> s4: deadline, again",
	} {
		if !strings.Contains(picture, want) {
			t.Errorf("want %q in\n%s", want, picture)
		}
	}
	m := newMachine(t, Declaration[order]{Steps: steps()})
	m.begin(t)
	data, _ := json.Marshal(m.state.Saga)
	want := `{"status":"running","version":1,"step":"reserve","due":"2026-01-02T03:04:15Z","steps":[` +
		`{"name":"reserve","state":"running","started_at":"2026-01-02T03:04:05Z","due":"2026-01-02T03:04:15Z"},` +
		`{"name":"note","state":"todo"},{"name":"capture","state":"todo","pivot":true},{"name":"ship","state":"todo"}]}`
	if string(data) != want {
		t.Errorf("progress is\n%s, want\n%s", data, want)
	}
}
