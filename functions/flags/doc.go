// Package flags keeps the feature flags of the system, in flagd's JSON, and evaluates them for programs outside of it
// by the OpenFeature Remote Evaluation Protocol (OFREP 0.3.0).
//
// It consumes flags.apply and flags.announce, which it emits itself, and clock.swept. It emits flags.changed with the
// whole flag for every version of it. Functions evaluate flags by what these events told them, see
// infra/flag/provider, so they neither call this function nor wait for it. When a function is new among those that
// consume flags.changed in the manifests that it is deployed with, it tells of all flags again, at the next
// clock.swept.
//
// It owns the flags, the changes that are scheduled, and the history: who changed which flag, when and why. A removed
// flag stays as a document without its definition, so that the versions of its key go on. The history is stored for two
// years.
//
// A change names the version that it was made for (If-Match), so of two concurrent changes the second is refused; the
// kill switch (disable) names none and always wins. A scheduled change is made only if the flag is the version that it
// was scheduled for; otherwise the history says that it was left out. It is late by a tick of the clock at most, and is
// made once however often its event comes.
package flags
