package flags

import (
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

type flags struct {
	f         *function.Function
	flags     *store.Collection[stored]
	history   *store.Collection[change]
	planned   *store.Collection[planned]
	audiences *store.Collection[audience]
	parsed    parsed
}

// New declares the function flags.
func New(env function.Env) (*function.Function, error) {
	f := function.New("flags", env)
	s := &flags{
		f:         f,
		flags:     function.Collection[stored](f, "flags", store.Entity, store.On("removed")),
		history:   function.Collection[change](f, "history", store.On("key", "at"), store.Retain("at", historyRetention)),
		planned:   function.Collection[planned](f, "scheduled", store.On("key", "due")),
		audiences: function.Collection[audience](f, "audiences"),
	}
	function.On(f, event.FlagsApply, s.apply)
	function.On(f, event.FlagsAnnounce, s.announce)
	function.On(f, event.ClockSwept, s.meet)
	function.Emits(f, event.FlagsChanged, event.FlagsApply, event.FlagsAnnounce)

	function.Serve(f, listFlags, s.list)
	function.Serve(f, getFlag, s.get)
	function.Serve(f, putFlag, s.put)
	function.Serve(f, removeFlag, s.remove)
	function.Serve(f, disableFlag, s.disable)
	function.Serve(f, enableFlag, s.enable)
	function.Serve(f, listHistory, s.listHistory)
	function.Serve(f, listScheduled, s.listScheduled)
	function.Serve(f, scheduleChange, s.schedule)
	function.Serve(f, cancelScheduled, s.cancel)
	function.Serve(f, evaluateFlag, s.evaluate)
	function.Serve(f, evaluateFlags, s.evaluateAll)
	return f, nil
}
