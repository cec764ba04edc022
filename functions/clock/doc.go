// Package clock stores the timers of all functions, so that no function needs a loop or a process that waits: only
// clock receives the tick of the host, and publishes the events that are due.
//
// It consumes clock.schedule and clock.cancel from every function, and the tick from the host. It emits the events of
// the timers, unchanged, and clock.swept every ten minutes (EBB_CLOCK_SWEEP), on which every function publishes the
// events that a crash may have left in its outbox. It emits clock.fired for each run of the recurring schedules that
// the functions of the system have declared; see infra/cron.
//
// It serves a list of the timers to administrators.
//
// It owns one document per timer that has not fired, one per cancel of an unknown timer, for three days, one per
// recurring schedule with when it is due next, and the time of the last clock.swept. The schedules are those of the
// manifests that it is deployed with: it takes them over at the first tick, and one that is not declared any more is
// removed.
//
// A tick may come late, twice, or from two hosts concurrently: a timer is removed in the transaction that publishes its
// event, so of two ticks one commits and the other is run again. The event got its id when the timer was set; when it
// is published twice, the consumer's inbox drops the second. Commands about one timer have the partition key of its
// event, so schedule and cancel mostly arrive in order. A cancel that overtakes its schedule is remembered for it. A
// timer never fires early; it fires late by at most a tick and the backlog. One tick publishes a portion, limited in
// timers and in bytes, and the next goes on at once.
package clock
