package saga_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
)

type order struct{ id string }

// orderData is the data of every event in these tests.
type orderData struct {
	OrderID string `json:"order_id"`
}

// types are the commands of the saga and the events that answer them.
var types = func() (t struct {
	reserve, reserved, refused, release, released, note, noted   event.Type[orderData]
	capture, captured, declined, refund, refunded, ship, shipped event.Type[orderData]
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
	return t
}()

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func steps() []saga.Step[order] {
	return []saga.Step[order]{
		{
			Name:    "reserve",
			Command: func(o order) event.Draft { return types.reserve.New(o.id, orderData{OrderID: o.id}) },
			Done:    types.reserved.Info(), Failed: types.refused.Info(),
			Undo:   func(o order) event.Draft { return types.release.New(o.id, orderData{OrderID: o.id}) },
			Undone: types.released.Info(), Deadline: 10 * time.Second,
		},
		{
			Name:    "note", // cannot be undone, and need not be
			Command: func(o order) event.Draft { return types.note.New(o.id, orderData{OrderID: o.id}) },
			Done:    types.noted.Info(), Deadline: 20 * time.Second,
		},
		{
			Name:    "capture",
			Command: func(o order) event.Draft { return types.capture.New(o.id, orderData{OrderID: o.id}) },
			Done:    types.captured.Info(), Failed: types.declined.Info(),
			Undo:   func(o order) event.Draft { return types.refund.New(o.id, orderData{OrderID: o.id}) },
			Undone: types.refunded.Info(), Deadline: 30 * time.Second, Pivot: true,
		},
		{
			Name:    "ship",
			Command: func(o order) event.Draft { return types.ship.New(o.id, orderData{OrderID: o.id}) },
			Done:    types.shipped.Info(), Deadline: 40 * time.Second,
		},
	}
}

func declared(t *testing.T) *saga.Saga[order] {
	t.Helper()
	s, err := saga.New("order", steps()...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

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
		status saga.Status
		states string
		reason string
	}{
		"every step is done": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {captured, "ship"}, {shipped, ""}},
			saga.Completed, "done done done done", "",
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
			saga.Completed, "done done done done", "",
		},
		"what is repeated or comes too early changes nothing": {
			[]beat{{captured, "-"}, {released, "-"}, {reserved, "note"}, {reserved, "-"}, {refused, "-"}, {shipped, "-"}},
			saga.Running, "done running todo todo", "",
		},
		"the first step fails: there is nothing to undo": {
			[]beat{{refused, ""}, {reserved, "-"}},
			saga.Reversed, "failed todo todo todo", "because of inventory.refused",
		},
		"a later step fails: what was done before is undone, the failed step is not": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {declined, "release"}, {refunded, "-"}, {released, ""}},
			saga.Reversed, "undone undone failed todo", "because of payments.declined",
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
			saga.Reversed, "undone undone undone todo", "step capture timed out",
		},
		"an undo that is not answered is asked for again, and again": {
			[]beat{{"cancel", "release"}, {"+9s", "-"}, {"+1s", "release"}, {"+9s", "-"}, {"+1s", "release"}, {released, ""}},
			saga.Reversed, "undone todo todo todo", "the customer says so",
		},
		"a second cancel changes nothing": {
			[]beat{{"cancel", "release"}, {"cancel", "-"}},
			saga.Undoing, "undoing todo todo todo", "the customer says so",
		},
		"a cancel while the pivot is in doubt undoes it": {
			[]beat{{reserved, "note"}, {sent, "capture"}, {"cancel", "refund"}},
			saga.Undoing, "done done undoing todo", "the customer says so",
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
			saga.Completed, "done done done done", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, now := declared(t), start
			p, drafts := s.Start(order{"o1"}, now)
			if got := what(drafts); got != "reserve" {
				t.Fatalf("starting asks for %q, want reserve", got)
			}
			for n, b := range tt.beats {
				before, _ := json.Marshal(p)
				var next saga.Progress
				var changed bool
				switch {
				case b.in == "cancel":
					next, drafts, changed = s.Cancel(p, order{"o1"}, "the customer says so", now)
				case b.in[0] == '+':
					d, _ := time.ParseDuration(b.in[1:])
					now = now.Add(d)
					next, drafts, changed = s.Expired(p, order{"o1"}, now)
				default:
					next, drafts, changed = s.Handle(p, order{"o1"}, "com.example."+b.in+".v1", "because of "+b.in, now)
				}
				if after, _ := json.Marshal(p); string(after) != string(before) {
					t.Fatalf("beat %d (%s) changed the progress it was given", n, b.in)
				}
				got := what(drafts)
				if !changed {
					got = "-"
				}
				if got != b.asks {
					t.Fatalf("beat %d (%s) asks for %q, want %q", n, b.in, got, b.asks)
				}
				p = next
			}
			var states []string
			for _, step := range p.Steps {
				states = append(states, string(step.State))
			}
			if got := strings.Join(states, " "); got != tt.states || p.Status != tt.status || p.Reason != tt.reason {
				t.Errorf("ended %s, %q, reason %q; want %s, %q, %q", p.Status, got, p.Reason, tt.status, tt.states, tt.reason)
			}
			if p.Status.Ended() != (p.Step == "" && p.Due.IsZero()) {
				t.Errorf("%s awaits %q until %v", p.Status, p.Step, p.Due)
			}
		})
	}
}

func what(drafts []event.Draft) string {
	var all []string
	for _, d := range drafts {
		all = append(all, d.Info.What)
	}
	return strings.Join(all, " ")
}

// world stands for the functions that carry out the commands. They are idempotent and store an undo that overtakes its
// command. Their answers arrive late, twice, in any order, or are lost.
type world struct {
	held map[string]bool
	gone map[string]bool // undone, perhaps before it was done
	mail []string        // event types under way
}

var undoes = map[string]string{"release": "reserve", "refund": "capture"}

func (w *world) do(command string, rnd *rand.Rand) {
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
		w.mail = append(w.mail, "com.example."+answer+".v1")
	}
}

// In any order, with any repetition, loss and delay, a saga ends once and holds all or nothing.
func TestEverySagaEnds(t *testing.T) {
	s := declared(t)
	ends := map[saga.Status]int{}
	for seed := range uint64(5000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := &world{held: map[string]bool{}, gone: map[string]bool{}}
		var commands, log []string
		now := start
		p, drafts := s.Start(order{"o1"}, now)
		var ended saga.Status
		for beat := 0; ; beat++ {
			for _, d := range drafts {
				commands = append(commands, d.Info.What)
			}
			drafts = nil
			if ended == "" && p.Status.Ended() {
				ended = p.Status
			}
			if ended != "" && p.Status != ended {
				t.Fatalf("seed %d: was %s, is %s\n%v", seed, ended, p.Status, log)
			}
			if ended != "" && len(commands) == 0 && len(w.mail) == 0 {
				break
			}
			if beat > 2000 {
				t.Fatalf("seed %d: has not ended: %+v\n%v", seed, p, log)
			}
			switch choice := rnd.IntN(20); {
			case choice < 9 && len(commands) > 0:
				n := rnd.IntN(len(commands))
				c := commands[n]
				if rnd.IntN(4) > 0 || ended != "" { // else it will be delivered again
					commands = append(commands[:n:n], commands[n+1:]...)
				}
				log = append(log, c)
				w.do(c, rnd)
			case choice < 18 && len(w.mail) > 0:
				n := rnd.IntN(len(w.mail))
				e := w.mail[n]
				if rnd.IntN(4) > 0 || ended != "" {
					w.mail = append(w.mail[:n:n], w.mail[n+1:]...)
				}
				log = append(log, e)
				p, drafts, _ = s.Handle(p, order{"o1"}, e, "refused", now)
			case choice == 18 && rnd.IntN(4) == 0:
				log = append(log, "cancel")
				p, drafts, _ = s.Cancel(p, order{"o1"}, "cancelled", now)
			default:
				now = now.Add(time.Duration(rnd.IntN(12)) * time.Second)
				log = append(log, "expired")
				p, drafts, _ = s.Expired(p, order{"o1"}, now)
			}
		}
		ends[ended]++
		want := ended == saga.Completed
		for _, step := range []string{"reserve", "capture"} {
			if w.held[step] != want {
				t.Fatalf("seed %d: %s, yet %s is held: %v\n%v", seed, ended, step, w.held[step], log)
			}
		}
		if w.held["ship"] != want {
			t.Fatalf("seed %d: %s, yet shipped: %v\n%v", seed, ended, w.held["ship"], log)
		}
		if (p.Reason == "") != want {
			t.Fatalf("seed %d: %s with reason %q", seed, ended, p.Reason)
		}
	}
	if ends[saga.Completed] < 100 || ends[saga.Reversed] < 100 {
		t.Errorf("the test did not see enough of both ends: %v", ends)
	}
}

// A declaration that cannot work is refused, with everything that is not valid in it.
func TestNewValidates(t *testing.T) {
	_, err := saga.New(
		"order",
		saga.Step[order]{Name: "a"},
		saga.Step[order]{
			Name:     "a",
			Command:  steps()[0].Command,
			Done:     types.reserved.Info(),
			Undone:   types.released.Info(),
			Deadline: 1,
			Pivot:    true,
		},
		saga.Step[order]{
			Name:     "b",
			Command:  steps()[0].Command,
			Done:     types.reserved.Info(),
			Failed:   types.reserved.Info(),
			Deadline: 1,
			Pivot:    true,
		},
	)
	for _, want := range []string{
		`"a" wants a command`, `"a" wants a deadline`, `"a" is there twice`, `"a" wants an undo`,
		`"b" has one event`, `"b" comes after the pivot`, `"b" is a second pivot`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in:\n%v", want, err)
		}
	}
	if _, err := saga.New[order]("order"); err == nil {
		t.Error("a saga without steps was accepted")
	}
}

// The declaration is drawn as a diagram, and a progress names the steps that have not begun.
func TestPicture(t *testing.T) {
	s := declared(t)
	picture := s.Mermaid()
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
	if got := s.Steps(); len(got) != 4 || !got[2].Pivot || got[2].Undone != "com.example.payments.refunded.v1" ||
		len(s.Consumes()) != 8 {
		t.Errorf("declared: %+v, consumes %d types", got, len(s.Consumes()))
	}
	p, _ := s.Start(order{"o1"}, start)
	data, _ := json.Marshal(p)
	want := `{"status":"running","step":"reserve","due":"2026-01-02T03:04:15Z","steps":[` +
		`{"name":"reserve","state":"running","started_at":"2026-01-02T03:04:05Z"},` +
		`{"name":"note","state":"todo"},{"name":"capture","state":"todo"},{"name":"ship","state":"todo"}]}`
	if string(data) != want {
		t.Errorf("progress is\n%s, want\n%s", data, want)
	}
}
