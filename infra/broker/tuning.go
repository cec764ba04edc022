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
	MinBatchInterval time.Duration // see Trigger; negative: none
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
	if u.MinBatchInterval != 0 {
		t.MinBatchInterval = max(u.MinBatchInterval, 0)
	}
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

// The bounds of what settings may ask for. Beyond them a value is a slip of the pen, or more than the counters of an
// engine hold.
const (
	mostRetries   = 1000
	mostAtOnce    = 4096 // events in a batch, and calls
	leastRate     = 0.001
	mostRate      = 1e6
	mostInterval  = time.Hour
	longest       = 24 * time.Hour
	mostPatience  = 30 * 24 * time.Hour
	leastDuration = time.Millisecond
)

// ParseTuning reads a tuning as settings have it: retry=20,timeout=1m,concurrency=4. The names are retry, backoff,
// delay, max-delay, timeout, patience, batch, concurrency, interval and rate, each once. An error is fault.Invalid.
func ParseTuning(text string) (u Tuning, err error) {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		err := u.parse(name, strings.TrimSpace(value))
		if err == nil && seen[name] {
			err = fmt.Errorf("%s is there twice", name)
		}
		if err != nil {
			return Tuning{}, fault.New(fault.Invalid, "invalid delivery %q: %v", part, err)
		}
		seen[name] = true
	}
	return u, nil
}

func (u *Tuning) parse(name, value string) (err error) {
	switch name {
	case "retry":
		u.Retry, err = number(value, 0, mostRetries)
		u.Retry = orNone(u.Retry)
	case "backoff":
		u.BackoffPolicy = BackoffPolicy(value)
		if u.BackoffPolicy != Linear && u.BackoffPolicy != Exponential {
			err = fmt.Errorf("want linear or exponential")
		}
	case "delay":
		u.BackoffDelay, err = duration(value, leastDuration, longest)
	case "max-delay":
		u.BackoffMax, err = duration(value, leastDuration, longest)
	case "timeout":
		u.Timeout, err = duration(value, leastDuration, longest)
	case "patience":
		u.Patience, err = duration(value, 0, mostPatience)
		u.Patience = orNone(u.Patience)
	case "batch":
		u.Batch, err = number(value, 1, mostAtOnce)
	case "concurrency":
		u.Concurrency, err = number(value, 1, mostAtOnce)
	case "interval":
		u.MinBatchInterval, err = duration(value, 0, mostInterval)
		u.MinBatchInterval = orNone(u.MinBatchInterval)
	case "rate":
		if u.Rate, err = strconv.ParseFloat(value, 64); err != nil || !(u.Rate >= leastRate && u.Rate <= mostRate) {
			err = fmt.Errorf("want events a second, such as 50, from %v to %.0f", leastRate, mostRate)
		}
	default:
		err = fmt.Errorf("unknown name (use retry, backoff, delay, max-delay, timeout, patience, batch, concurrency, " +
			"interval or rate)")
	}
	return err
}

// orNone returns the value with which a tuning asks for none.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

func number(value string, least, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a number from %d to %d", least, most)
	}
	return n, nil
}

func duration(value string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("want a duration such as 1m30s, from %s to %s", least, most)
	}
	return d, nil
}
