package function

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Env is what a host gives a function. A port that is left out fails with a clear error when it is used; Telemetry,
// Logger, Now and NewID have plain defaults.
type Env struct {
	Store         store.Opener         // opens the function's own database
	Publisher     broker.Publisher     // publishes the events that it emits
	Lookup        config.Lookup        // looks up its settings
	Settings      func() config.Report // tells them, with their origins; nil: those that it declares, by Lookup
	Authenticator auth.Authenticator   // authenticates requests; nil refuses all credentials
	Telemetry     *telemetry.Telemetry // nil: none
	Logger        *slog.Logger         // nil: slog.Default
	Now           func() time.Time     // nil: time.Now
	NewID         func() string        // returns a new id for an event or for what a handler creates; nil: UUIDv7

	// Sleep waits between two attempts of an outside call, until the context ends. Nil: in real time.
	Sleep func(ctx context.Context, d time.Duration)

	// Go makes an outside call beside the others of a batch. Nil: in a goroutine. A simulation makes it at once.
	Go func(call func())

	// System returns what is deployed together with the function, for those few that need all of it: a gateway, an
	// archive. It may take some milliseconds the first time. Nil: nothing is known.
	System func() manifest.System

	// Discovery lists the instances of functions, for the gateway, the only one that calls others. Nil: the gateway has
	// settings of its own.
	Discovery discovery.Discovery

	// Logs returns the latest lines that the host has logged in one of the correlations, oldest first, for the console.
	// It may be called concurrently. Nil: the host keeps none.
	Logs func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error)

	// Transport carries the requests of a gateway to instances of other processes. Nil: one without mutual TLS.
	Transport http.RoundTripper

	declaring bool // no instance is wanted: settings have their defaults, and none is required
}

// loadSettings loads settings into a T, an envconfig struct whose tags hold the whole names of the variables. The error
// is a *config.Error and names every violation.
func loadSettings[T any](env Env) (T, error) {
	switch {
	case env.declaring:
		return config.Defaults[T]("")
	case env.Lookup == nil:
		return config.Load[T]("", config.Map(nil))
	}
	return config.Load[T]("", env.Lookup)
}

// Configure declares the settings of a function, so that they are a part of its manifest, and loads them into a T, an
// envconfig struct whose tags hold the whole names of the variables. The error is a *config.Error and names every
// violation. While the function is only declared (see Declare) the settings have their defaults, and one that is
// required is empty.
func Configure[T any](f *Function) (T, error) {
	for _, v := range config.Variables[T]("") {
		f.settings = append(f.settings, manifest.Setting{
			Variable: v.Name, Description: v.Desc, Default: v.Default, Required: v.Required, Secret: v.Secret,
			Type: v.Type, Reload: v.Reload,
		})
	}
	f.settingsChecks = append(f.settingsChecks, func(lookup config.Lookup) error {
		_, err := config.Load[T]("", lookup)
		return err
	})
	return loadSettings[T](f.env)
}

// Declare returns what the function of a constructor declares, as data. The constructor gets no store, no broker and no
// settings.
func Declare(constructor func(Env) (*Function, error)) (*manifest.Declaration, error) {
	f, err := constructor(Env{declaring: true})
	if err != nil {
		return nil, err
	}
	return f.declaration(), nil
}

// withDefaults returns the environment with something in every place.
func (e Env) withDefaults(name string) Env {
	if e.Logger == nil {
		e.Logger = slog.Default()
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.NewID == nil {
		e.NewID = newID
	}
	if e.Sleep == nil {
		e.Sleep = sleep
	}
	if e.Go == nil {
		e.Go = func(call func()) { go call() }
	}
	if e.Store == nil {
		e.Store = func(context.Context, string, store.Schema) (store.Driver, error) {
			return nil, fault.New(fault.Internal, "function %s was given no store", name)
		}
	}
	if e.Publisher == nil {
		e.Publisher = unassigned(name)
	}
	if e.System == nil {
		e.System = func() manifest.System { return manifest.System{} }
	}
	return e
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// unassigned is the publisher of a function that was given none.
type unassigned string

func (u unassigned) Publish(context.Context, ...ce.Event) error {
	return fault.New(fault.Internal, "function %s was given no broker", string(u))
}

// newID returns a UUIDv7 (RFC 9562): unique, and sorted by the time at which it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
