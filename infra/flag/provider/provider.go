// Package provider evaluates feature flags in a function, by what the events of the function flags told it: no call
// leaves the function, and an evaluation is a part of the handler's unit of work.
//
//	s.flags = provider.New(f)
//	…
//	accepted, err := s.flags.Boolean(ctx, tx, "payments-accepted", true, provider.Context{"currency": "EUR"})
//
// The function learns of every flag, and stores it in its own database. A flag that it has not heard of has the default
// that the caller names, so a product without the function flags works as well, and so does a function when flags is
// away. A function that begins to evaluate flags asks for those from before at the first sweep of the clock that it
// gets: then its trigger exists, so it gets the answer too.
//
// Flags.OpenFeature is the same as a provider for the Go SDK of OpenFeature, for code that is written for that.
package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/flag"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Context is what a flag is evaluated by. Its member targetingKey names whom it is evaluated for.
type Context map[string]any

// known is the stored form of a flag.
type known struct {
	Version    int             `json:"version"`
	Definition json.RawMessage `json:"definition,omitempty"` // none: it is removed
}

// asked is the document of a function that has asked for the flags from before.
type asked struct {
	At time.Time `json:"at"`
}

const only = "only" // the id of the single document of a collection

// Flags is the flags that a function knows. It may be used concurrently.
type Flags struct {
	known *store.Collection[known]
	asked *store.Collection[asked]

	mu     sync.Mutex
	parsed map[string]parsed // by key
}

type parsed struct {
	version int
	flag    *flag.Flag
	err     error
}

// maxParsed is how many definitions are held in memory.
const maxParsed = 1000

// New declares that the function evaluates flags: it consumes event.FlagsChanged and event.ClockSwept, emits
// event.FlagsAnnounce, and has the collections feature_flags and feature_flags_asked. It is called once, in the
// function's constructor.
func New(f *function.Function) *Flags {
	p := &Flags{
		known: function.Collection[known](f, "feature_flags"),
		asked: function.Collection[asked](f, "feature_flags_asked"),
	}
	function.On(f, event.FlagsChanged, p.learn)
	function.On(f, event.ClockSwept, p.ask)
	function.Emits(f, event.FlagsAnnounce)
	return p
}

// ask asks once for the flags from before the function's trigger existed.
func (p *Flags) ask(ctx context.Context, tx *function.Tx, _ event.SweptClock) error {
	if tx.Replayed() {
		return nil
	}
	_, done, err := p.asked.Find(ctx, tx, only)
	if err != nil || done {
		return err
	}
	tx.Emit(event.FlagsAnnounce.New(only, event.AnnounceFlags{}))
	return p.asked.Put(ctx, tx, only, asked{At: tx.Now()})
}

// Document returns the key of the document of a flag, for function.Prefetch.
func (p *Flags) Document(key string) store.Key { return p.known.Key(key) }

// learn stores a version of a flag that is newer than the one that is known.
func (p *Flags) learn(ctx context.Context, tx *function.Tx, c event.ChangedFlag) error {
	if err := flag.CheckKey(c.Key); err != nil {
		return err
	}
	before, _, err := p.known.Find(ctx, tx, c.Key)
	if err != nil || before.Version >= c.Version {
		return err
	}
	k := known{Version: c.Version, Definition: c.Definition}
	if c.Removed {
		k.Definition = nil
	}
	return p.known.Put(ctx, tx, c.Key, k)
}

// Evaluate returns the value of a flag, see flag.Flag.Evaluate. The error is that of the store: a handler returns it,
// and is run again. Everything else that is wrong is in the result, and the caller takes its own default.
func (p *Flags) Evaluate(ctx context.Context, tx *function.Tx, key string, by Context) (flag.Result, error) {
	k, found, err := p.known.Find(ctx, tx, key)
	if err != nil {
		return flag.Result{}, err
	}
	if !found || len(k.Definition) == 0 {
		return flag.NotFound(key), nil
	}
	f, err := p.parse(key, k)
	if err != nil { // another version of the kit has written it
		return flag.Result{Reason: flag.ReasonError, Code: flag.CodeParseError, Message: fault.Public(err)}, nil
	}
	by, err = by.plain()
	if err != nil {
		return flag.Result{Reason: flag.ReasonError, Code: flag.CodeInvalidContext, Message: err.Error()}, nil
	}
	return f.Evaluate(key, by, tx.Now()), nil
}

// plain returns the context with values as those of JSON: a number is a float64, a time is text.
func (c Context) plain() (Context, error) {
	all := make(Context, len(c))
	for name, v := range c {
		switch v.(type) {
		case string, bool, float64, nil:
			all[name] = v
			continue
		}
		data, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("invalid context: %s: %w", name, err)
		}
		var decoded any
		if err := json.Unmarshal(data, &decoded); err != nil {
			return nil, fmt.Errorf("invalid context: %s: %w", name, err)
		}
		all[name] = decoded
	}
	return all, nil
}

func (p *Flags) parse(key string, k known) (*flag.Flag, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.parsed[key]
	if ok && v.version == k.Version {
		return v.flag, v.err
	}
	v = parsed{version: k.Version}
	v.flag, v.err = flag.Parse(k.Definition)
	if p.parsed == nil || len(p.parsed) >= maxParsed {
		p.parsed = map[string]parsed{}
	}
	p.parsed[key] = v
	return v.flag, v.err
}

// Boolean returns the value of a flag, or otherwise when the flag has none or is not a boolean. The error is that of
// the store.
func (p *Flags) Boolean(ctx context.Context, tx *function.Tx, key string, otherwise bool, by Context) (bool, error) {
	return value(ctx, p, tx, key, otherwise, by)
}

// String returns the value of a flag, or otherwise when the flag has none or is not a string. The error is that of the
// store.
func (p *Flags) String(
	ctx context.Context, tx *function.Tx, key, otherwise string, by Context,
) (string, error) {
	return value(ctx, p, tx, key, otherwise, by)
}

// Number returns the value of a flag, or otherwise when the flag has none or is not a number. The error is that of the
// store.
func (p *Flags) Number(
	ctx context.Context, tx *function.Tx, key string, otherwise float64, by Context,
) (float64, error) {
	return value(ctx, p, tx, key, otherwise, by)
}

func value[T any](ctx context.Context, p *Flags, tx *function.Tx, key string, otherwise T, by Context) (T, error) {
	r, err := p.Evaluate(ctx, tx, key, by)
	if v, ok := r.Value.(T); ok && err == nil {
		return v, nil
	}
	return otherwise, err
}
