package broker

import "time"

// Observer is told what a driver does, for metrics. Its methods are called from many
// goroutines and must be quick. A driver takes a nil Observer for none.
type Observer interface {
	Published(n int)                                          // n events have become durable
	Delivered(trigger string, status int, took time.Duration) // one attempt at one event was answered
	Retried(trigger string)                                   // an event will be tried again
	DeadLettered(trigger string)                              // the dead-letter sink has taken an event
	Paused(trigger string, paused bool)                       // delivery is paused, as the function is away, or goes on
}

// Stats is what a driver counted for one trigger since it was opened.
type Stats struct {
	Trigger      string
	Delivered    uint64    // events whose delivery succeeded
	Retried      uint64    // attempts that will be repeated
	DeadLettered uint64    // events the dead-letter sink took
	Dropped      uint64    // events that failed for good with no sink to take them
	Open         int       // events that are waiting or being handled
	Paused       time.Time // since when delivery is paused, as the function is away; zero: it is not
	Lag          uint64    // log entries that have not been looked at yet
}
