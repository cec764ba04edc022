package config

import "sync/atomic"

// Generation is the name under which a Lookup whose values change answers the number of the last change. Other lookups
// do not have it.
const Generation = "\x00generation"

// Live holds settings that may change while the process runs. It may be used concurrently.
type Live[T any] struct {
	prefix string
	lookup Lookup
	now    atomic.Pointer[generation[T]]
}

type generation[T any] struct {
	number string
	value  T
}

// Follow returns settings that follow the lookup, and that are the value until its first change. A nil lookup has none.
func Follow[T any](prefix string, lookup Lookup, value T) *Live[T] {
	l := &Live[T]{prefix: prefix, lookup: lookup}
	l.now.Store(&generation[T]{value: value})
	return l
}

// Get returns the settings of one moment. After a change it loads them again; settings that are not valid do not count,
// and the last ones stay.
func (l *Live[T]) Get() T {
	last := l.now.Load()
	if l.lookup == nil {
		return last.value
	}
	for {
		number, _ := l.lookup(Generation)
		if number == last.number {
			return last.value
		}
		next := &generation[T]{number: number, value: last.value}
		if value, err := Load[T](l.prefix, l.lookup); err == nil {
			next.value = value
		}
		if after, _ := l.lookup(Generation); after != number {
			continue // it has changed in the middle: the values may be of two moments
		}
		if l.now.CompareAndSwap(last, next) {
			return next.value
		}
		last = l.now.Load()
	}
}
