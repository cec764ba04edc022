// Package clock keeps the timers of all functions, so that none of them needs a loop or a process
// that waits: only clock is woken by the tick of the host, and publishes what is due.
//
// Hears clock.schedule and clock.cancel from everyone, and the tick straight from the host.
// Says whatever it was asked to say, exactly as it was given, and clock.swept every ten minutes
// (EBB_CLOCK_SWEEP), on which every function publishes what a crash may have left in its outbox.
//
// Serves a list of the timers to admins.
//
// Owns one document per timer that has not gone off, and the time of the last sweep.
//
// A tick may come late, twice, or from two hosts at once: a timer is removed in the transaction that
// publishes its event, so of two ticks one wins and the other starts again. The event was given its
// id when it was scheduled; should it be published twice, its receiver's inbox drops the second. Events
// about one timer share the partition key of its event, so schedule and cancel come in order. A
// timer is never early, and late by at most a tick and the backlog.
package clock
