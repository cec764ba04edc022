// Package flag evaluates feature flags in the form of flagd (https://flagd.dev/reference/flag-definitions): variants, a
// default variant, and targeting by JsonLogic with flagd's own operations fractional, starts_with, ends_with and
// sem_ver. Unlike flagd's, what an operation does for each element of a list (map, reduce, filter, all, none, some) may
// not itself have such an operation, cat or merge: an evaluation takes no longer than the lists are long.
//
// A Flag is data: it is parsed once and may be evaluated concurrently. Nothing is fetched. The function flags keeps the
// definitions and tells of every change by event.FlagsChanged; package provider evaluates them in other functions.
package flag
