package saga_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/saga"
)

// A strict saga ignores answers to the commands of others, and answers about sagas of others are no dead letters.
func TestStrict(t *testing.T) {
	d := flight()
	d.Strict = true
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(d, &s))
	begin(t, h)
	asked := h.Emitted()[0]
	h.MustDeliver(booked.New("1", data{ID: "1"}), refused.New("1", data{ID: "1"}), booked.New("2", data{ID: "2"}))
	want(t, h, "")
	answer := booked.New("1", data{ID: "1"})
	answer.Cause = asked.ID()
	h.MustDeliver(answer)
	want(t, h, "trips.ended clock.cancel")
}
