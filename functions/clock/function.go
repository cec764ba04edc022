package clock

import (
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the settings of the clock.
type Config struct {
	Sweep time.Duration `envconfig:"EBB_CLOCK_SWEEP" default:"10m" reload:"true" desc:"how often every function checks its outbox"`
}

type clock struct {
	f         *function.Function
	timers    *store.Collection[timer]
	cancelled *store.Collection[cancelled]
	sweeps    *store.Collection[sweep]
	schedules *store.Collection[recurring]
	adopted   *store.Collection[adopted]
	settings  *config.Live[Config]
}

// New declares the clock function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("clock", env)
	set, err := function.Configure[Config](f)
	if err != nil {
		return nil, err
	}
	// Timers need no more precision than seconds.
	function.Deliver(f, broker.Tuning{Batch: 512, MinBatchInterval: 100 * time.Millisecond})
	c := &clock{
		f:         f,
		timers:    function.Collection[timer](f, "timers", store.On("due"), store.SingleUse),
		cancelled: function.Collection[cancelled](f, "cancelled", store.Expire("until")),
		sweeps:    function.Collection[sweep](f, "sweeps"),
		schedules: function.Collection[recurring](f, "schedules", store.On("due")),
		adopted:   function.Collection[adopted](f, "adopted"),
		settings:  config.Follow("", f.Env().Lookup, set),
	}
	function.On(f, event.ClockSchedule, c.schedule)
	function.On(f, event.ClockCancel, c.cancel)
	function.OnTick(f, c.tick)
	function.Emits(f, event.ClockSwept, event.ClockFired)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/timers", Access: function.Only(auth.Viewers()...), Summary: "List timers",
		Description: "Those that have not fired, the one due first at the top.",
	}, c.list)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/schedules", Access: function.Only(auth.Viewers()...), Summary: "List schedules",
		Description: "The recurring schedules of all functions, the one due first at the top.",
	}, c.listSchedules)
	return f, nil
}
