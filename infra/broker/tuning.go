package broker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Tuning changes how a trigger delivers. A function declares one, and an environment may have another that takes
// precedence. Zero fields change nothing.
type Tuning struct {
	Retry            int           // further attempts after the first; negative: none
	BackoffPolicy    BackoffPolicy // how the wait between attempts grows
	BackoffDelay     time.Duration
	BackoffMax       time.Duration
	Timeout          time.Duration // for one attempt
	Patience         time.Duration // see Delivery; negative: none
	Batch            int           // the most events in one call of the handler
	Concurrency      int           // how many calls may run at once; above 1 a batch is one event unless Batch is set
	MinBatchInterval time.Duration // see Trigger
	Rate             float64       // events a second at most, on average
}

// Apply returns the trigger with the changes.
func (u Tuning) Apply(t Trigger) Trigger {
	d := &t.Delivery
	if u.Retry != 0 {
		d.Retry = max(u.Retry, 0)
	}
	if u.BackoffPolicy != "" {
		d.BackoffPolicy = u.BackoffPolicy
	}
	if u.Patience != 0 {
		d.Patience = max(u.Patience, 0)
	}
	if u.Concurrency > 1 {
		t.Batch = 1
	}
	set(&d.BackoffDelay, u.BackoffDelay)
	set(&d.BackoffMax, u.BackoffMax)
	set(&d.Timeout, u.Timeout)
	set(&t.MinBatchInterval, u.MinBatchInterval)
	set(&t.Concurrency, u.Concurrency)
	set(&t.Batch, u.Batch)
	set(&t.Rate, u.Rate)
	return t
}

func set[T int | float64 | time.Duration](to *T, v T) {
	if v != 0 {
		*to = v
	}
}

// ParseTuning reads a tuning as settings have it: retry=20,timeout=1m,concurrency=4. The names are retry, backoff,
// delay, max-delay, timeout, patience, batch, concurrency, interval and rate. An error is fault.Invalid.
func ParseTuning(text string) (u Tuning, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		if err := u.parse(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return Tuning{}, fault.New(fault.Invalid, "invalid delivery %q: %v", part, err)
		}
	}
	return u, nil
}

func (u *Tuning) parse(name, value string) error {
	duration := func(to *time.Duration) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("want a duration such as 1m30s")
		}
		*to = d
		return nil
	}
	number := func(to *int, least int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least {
			return fmt.Errorf("want a number from %d on", least)
		}
		*to = n
		return nil
	}
	switch name {
	case "retry":
		err := number(&u.Retry, 0)
		if u.Retry == 0 {
			u.Retry = -1
		}
		return err
	case "backoff":
		u.BackoffPolicy = BackoffPolicy(value)
		if u.BackoffPolicy != Linear && u.BackoffPolicy != Exponential {
			return fmt.Errorf("want linear or exponential")
		}
		return nil
	case "delay":
		return duration(&u.BackoffDelay)
	case "max-delay":
		return duration(&u.BackoffMax)
	case "timeout":
		return duration(&u.Timeout)
	case "patience":
		err := duration(&u.Patience)
		if u.Patience == 0 {
			u.Patience = -1
		}
		return err
	case "batch":
		return number(&u.Batch, 1)
	case "concurrency":
		return number(&u.Concurrency, 1)
	case "interval":
		return duration(&u.MinBatchInterval)
	case "rate":
		rate, err := strconv.ParseFloat(value, 64)
		if err != nil || !(rate > 0 && rate <= 1e6) {
			return fmt.Errorf("want events a second, such as 50")
		}
		u.Rate = rate
		return nil
	}
	return fmt.Errorf("unknown name (use retry, backoff, delay, max-delay, timeout, patience, batch, concurrency, " +
		"interval or rate)")
}
