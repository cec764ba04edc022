// Package source reads settings from where they are: the environment, beneath it a file of YAML (EBB_CONFIG), and
// beneath that the key-value store of Consul (EBB_CONFIG_CONSUL). It tells the origin of each value and follows
// changes.
//
//	EBB_LOG_LEVEL: info                  # for every function
//	functions:
//	  orders:
//	    EBB_ORDERS_STEP_DEADLINE: 45s    # for one
//
// Consul has the same values under the keys PREFIX/EBB_LOG_LEVEL and PREFIX/functions/orders/EBB_ORDERS_STEP_DEADLINE.
//
// A document with an unknown name or a value of another type is refused as a whole: at the start as an error, and later
// with a warning, while the values from before stay. A change counts at once for a setting that is declared so (the tag
// reload), and for any other at the next start.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
)

// The variables that name the sources. They are variables of the environment only.
const (
	FileVariable   = "EBB_CONFIG"
	ConsulVariable = "EBB_CONFIG_CONSUL"
)

// Known lists the settings that exist.
type Known struct {
	Common    []config.Variable            // of every function
	Functions map[string][]config.Variable // of one, by its name
}

// all returns every variable by its name.
func (k Known) all() map[string]config.Variable {
	all := map[string]config.Variable{}
	for _, own := range k.Functions {
		for _, v := range own {
			all[v.Name] = v
		}
	}
	for _, v := range k.Common {
		all[v.Name] = v
	}
	return all
}

// Of returns the variables of one function, with those of every function, sorted by name.
func (k Known) Of(function string) []config.Variable {
	own := slices.Concat(k.Common, k.Functions[function])
	slices.SortStableFunc(own, func(a, b config.Variable) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(own, func(a, b config.Variable) bool { return a.Name == b.Name })
}

// Config is how Sources are opened. Known is required.
type Config struct {
	Environment config.Lookup // takes precedence; nil: empty
	Known       Known

	// Check reports what is not valid among the settings that a function would get, as a *config.Error; nil: nothing is.
	Check func(function string, lookup config.Lookup) error

	Function  string            // whose settings count; "": of all that Known has
	Logger    *slog.Logger      // nil: slog.Default
	Transport http.RoundTripper // to Consul; nil: http.DefaultTransport
	Wait      time.Duration     // how long Open waits for a Consul that does not answer; 0: 10 s
	Every     time.Duration     // between two looks at the file; 0: 2 s
}

// Sources are settings with their origins. They may be used concurrently.
type Sources struct {
	cfg    Config
	known  map[string]config.Variable
	file   string
	opened string // what the file had when it was opened
	consul *kv    // nil: none

	first *layers
	now   atomic.Pointer[layers]

	mu      sync.Mutex // held while a change is taken over
	refused [2]string  // why the last change of each source was refused; "": it was not
	changed []func()

	telling sync.Mutex // held while changed is called
}

// layers are the values beneath the environment at one moment.
type layers struct {
	number       int
	file, consul values
}

// Value is the text of a setting and where it stands.
type Value struct{ Text, Origin string }

// values are those of one source.
type values struct {
	common    map[string]Value
	functions map[string]map[string]Value
}

// get returns the value for a function.
func (v values) get(function, name string) (Value, bool) {
	if found, ok := v.functions[function][name]; ok {
		return found, true
	}
	found, ok := v.common[name]
	return found, ok
}

// equal reports whether two sources have the same values.
func (v values) equal(w values) bool {
	return maps.Equal(v.common, w.common) && maps.EqualFunc(v.functions, w.functions, maps.Equal)
}

// find returns the value of the first source that has one.
func (l *layers) find(function, name string) (Value, bool) {
	if found, ok := l.file.get(function, name); ok {
		return found, true
	}
	return l.consul.get(function, name)
}

// Open reads the sources that the environment names. It waits for a Consul that does not answer, up to Config.Wait. The
// error names the file and the line, or the key, of every fault; it is a *config.Error when the values are at fault.
func Open(ctx context.Context, cfg Config) (*Sources, error) {
	cfg.Environment = withoutEmpty(cfg.Environment)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Wait == 0 {
		cfg.Wait = 10 * time.Second
	}
	if cfg.Every == 0 {
		cfg.Every = 2 * time.Second
	}
	s := &Sources{cfg: cfg, known: cfg.Known.all()}
	s.file, _ = cfg.Environment(FileVariable)
	first := &layers{}
	var faults []error
	if s.file != "" {
		var err error
		if first.file, err = s.readFile(); err != nil {
			faults = append(faults, err)
		}
	}
	if address, _ := cfg.Environment(ConsulVariable); address != "" {
		var err error
		if s.consul, err = newKV(address, cfg); err != nil {
			faults = append(faults, violation(ConsulVariable, err))
		} else if first.consul, err = s.awaitConsul(ctx); err != nil {
			faults = append(faults, err)
		}
	}
	if err := config.Join(faults...); err != nil {
		return nil, err
	}
	s.first = first
	s.now.Store(first)
	return s, nil
}

// withoutEmpty returns a lookup in which a variable that is set but empty is not set; nil: none is.
func withoutEmpty(lookup config.Lookup) config.Lookup {
	return func(name string) (string, bool) {
		if lookup == nil {
			return "", false
		}
		text, _ := lookup(name)
		return text, text != ""
	}
}

// violation returns an error as the violation of a variable.
func violation(variable string, err error) error {
	return &config.Error{Violations: []config.Violation{{Variable: variable, Problem: err.Error()}}}
}

// Named reports whether there is a source beside the environment.
func (s *Sources) Named() bool { return s.file != "" || s.consul != nil }

// Lookup looks a setting of the function up.
func (s *Sources) Lookup(name string) (string, bool) { return s.For(s.cfg.Function)(name) }

// For returns the lookup of one function; "": of what counts for every function.
func (s *Sources) For(function string) config.Lookup {
	return func(name string) (string, bool) {
		if name == config.Generation {
			return strconv.Itoa(s.now.Load().number), true
		}
		if text, ok := s.cfg.Environment(name); ok {
			return text, true
		}
		found, ok := s.effective(s.now.Load(), function, name)
		return found.Text, ok
	}
}

// Own returns the lookup of what is set for one function alone, and not in the environment.
func (s *Sources) Own(function string) config.Lookup {
	return func(name string) (string, bool) {
		if _, ok := s.cfg.Environment(name); ok {
			return "", false
		}
		l := s.now.Load()
		if !s.known[name].Reload {
			l = s.first
		}
		if found, ok := l.file.functions[function][name]; ok {
			return found.Text, true
		}
		if _, ok := l.file.common[name]; ok {
			return "", false
		}
		found, ok := l.consul.functions[function][name]
		return found.Text, ok
	}
}

// effective returns the value that counts at a moment: of a setting that is not reloaded, the first one.
func (s *Sources) effective(l *layers, function, name string) (Value, bool) {
	if !s.known[name].Reload {
		l = s.first
	}
	return l.find(function, name)
}

// Effective returns the settings of a function, sorted by name.
func (s *Sources) Effective(function string) config.Report {
	var r config.Report
	now := s.now.Load()
	for _, v := range s.cfg.Known.Of(function) {
		e := config.Setting{Variable: v.Name, Reload: v.Reload, Description: v.Desc}
		found, ok := s.effective(now, function, v.Name)
		text, inEnvironment := s.cfg.Environment(v.Name)
		switch {
		case inEnvironment:
			found = Value{text, config.FromEnvironment}
		case ok && found.Text != "":
		case v.Default != "":
			found = Value{v.Default, config.FromDefault}
		default:
			found = Value{"", config.Unset}
		}
		if next, _ := now.find(function, v.Name); found.Origin != config.FromEnvironment && !v.Reload {
			was, _ := s.first.find(function, v.Name)
			e.Pending = next.Text != was.Text
		}
		e.Value, e.Origin = config.Mask(found.Text, v.Secret), found.Origin
		r.Settings = append(r.Settings, e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reasons := slices.DeleteFunc(slices.Clone(s.refused[:]), func(why string) bool { return why == "" })
	r.Refused = strings.Join(reasons, "; ")
	return r
}

// Locate adds to each violation of an error where the value stands, if it comes from a file or from Consul.
func (s *Sources) Locate(function string, err error) error {
	return locate(function, err, s.now.Load(), s.cfg.Environment)
}

func locate(function string, err error, l *layers, environment config.Lookup) error {
	var settings *config.Error
	if !errors.As(err, &settings) {
		return err
	}
	located := &config.Error{Violations: slices.Clone(settings.Violations)}
	for i, v := range located.Violations {
		if _, ok := environment(v.Variable); ok {
			continue
		}
		if found, ok := l.find(function, v.Variable); ok {
			located.Violations[i].Problem = fmt.Sprintf("%s (%s)", v.Problem, found.Origin)
		}
	}
	return located
}

// OnChange has do called after each change from now on that counts without a restart, one call at a time.
func (s *Sources) OnChange(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, do)
}

// Run follows the file and Consul until ctx ends. Without them it returns at once.
func (s *Sources) Run(ctx context.Context) {
	var following sync.WaitGroup
	if s.file != "" {
		following.Go(func() { s.followFile(ctx) })
	}
	if s.consul != nil {
		following.Go(func() { s.followConsul(ctx) })
	}
	following.Wait()
}

// The sources that change.
const (
	fileSource = iota
	consulSource
)

// refuse logs why a change of a source is not taken over, once for the same reason.
func (s *Sources) refuse(source int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := err.Error(); text != s.refused[source] {
		s.refused[source] = text
		s.cfg.Logger.Warn("the changed configuration is not valid; the settings from before stay", "error", text)
	}
}

// unchanged forgets why a change of a source was refused: the source has the values again that are in use.
func (s *Sources) unchanged(source int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[source] = ""
}

// take takes a change of a source over, if all values are valid.
func (s *Sources) take(source int, change func(next *layers)) {
	s.mu.Lock()
	last := s.now.Load()
	next := &layers{number: last.number + 1, file: last.file, consul: last.consul}
	change(next)
	if err := s.check(next); err != nil {
		s.mu.Unlock()
		s.refuse(source, err)
		return
	}
	s.refused[source] = ""
	reloaded := s.report(last, next)
	s.now.Store(next)
	changed := slices.Clip(s.changed)
	s.mu.Unlock()
	s.telling.Lock()
	defer s.telling.Unlock()
	if reloaded {
		for _, do := range changed {
			do()
		}
	}
}

// functions returns the names of the functions whose settings count.
func (s *Sources) functions() []string {
	if s.cfg.Function != "" {
		return []string{s.cfg.Function}
	}
	return append([]string{""}, slices.Sorted(maps.Keys(s.cfg.Known.Functions))...)
}

// check reports what would not be valid at the next start.
func (s *Sources) check(next *layers) error {
	if s.cfg.Check == nil {
		return nil
	}
	var faults []error
	for _, function := range s.functions() {
		err := s.cfg.Check(function, config.Overlay(s.cfg.Environment, func(name string) (string, bool) {
			found, ok := next.find(function, name)
			return found.Text, ok
		}))
		if err != nil {
			faults = append(faults, locate(function, err, next, s.cfg.Environment))
		}
	}
	return config.Join(faults...)
}

// report logs each setting that has changed, and returns whether one of them counts at once.
func (s *Sources) report(last, next *layers) (reloaded bool) {
	for _, function := range s.functions() {
		for _, v := range s.cfg.Known.Of(function) {
			was, _ := last.find(function, v.Name)
			is, _ := next.find(function, v.Name)
			if _, ok := s.cfg.Environment(v.Name); was.Text == is.Text || ok {
				continue
			}
			attrs := []any{"setting", v.Name, "of", function, "value", config.Mask(is.Text, v.Secret), "origin", is.Origin}
			if v.Reload {
				reloaded = true
				s.cfg.Logger.Info("a setting has changed", attrs...)
				continue
			}
			s.cfg.Logger.Warn("a setting has changed; restart needed, until then the value from before counts", attrs...)
		}
	}
	return reloaded
}
