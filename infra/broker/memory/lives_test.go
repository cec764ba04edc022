package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// lives simulates the lives of processes that share a log, by seed: several triggers with events of all kinds, of which
// some kill the process that handles them, and processes that are killed for no reason.
type lives struct {
	rng     *rand.Rand // guarded by mu; see below
	log     *memory.Log
	forget  bool // SaveAttempts does nothing
	end     chan struct{}
	poison  map[string]bool
	mu      sync.Mutex
	handled map[string]bool
	dead    []string
	deaths  map[string]int // by the event that killed
}

const (
	livesRetry  = 4
	livesKilled = 2  // processes that are killed for no reason, at most
	livesMost   = 60 // processes
)

// below returns a number below n.
func (l *lives) below(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(n)
}

// run returns what is wrong in the end; "": nothing.
func (l *lives) run(t *testing.T) string {
	var ids []string
	triggers := 1 + l.below(3)
	for n := range 10 + l.below(40) {
		ids = append(ids, fmt.Sprintf("t%d-%d", l.below(triggers), n))
	}
	for range 1 + l.below(2) {
		l.poison[ids[l.below(len(ids))]] = true
	}
	killed := 0
	for life := 1; ; life++ {
		if life > livesMost {
			return fmt.Sprintf("no end after %d lives", life)
		}
		b, kill := openMortal(l.log, l.forget)
		over := make(chan struct{})
		die := sync.OnceFunc(func() { close(over) })
		for n := range triggers {
			l.subscribe(t, b, fmt.Sprint("t", n), die)
		}
		if life == 1 {
			for _, id := range ids {
				key := ""
				if l.below(3) > 0 {
					key = fmt.Sprint(l.below(5))
				}
				b.Publish(t.Context(), brokertest.Event(id, key))
			}
		}
		random, limit := time.Duration(l.below(200))*time.Millisecond, time.Minute
		if killed < livesKilled && l.below(3) == 0 {
			killed++
			limit = random
		}
		select {
		case <-over:
			kill()
			continue
		case <-time.After(limit):
		}
		if limit < time.Minute {
			kill()
			continue
		}
		b.Close(context.Background())
		return l.check(ids)
	}
}

func (l *lives) subscribe(t *testing.T, b broker.Broker, name string, die func()) {
	d := broker.Delivery{Retry: livesRetry, BackoffDelay: time.Millisecond}
	d.DeadLetter = func(_ context.Context, batch []ce.Event) []broker.Result {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dead = append(l.dead, batch[0].ID())
		return []broker.Result{{Status: 200}}
	}
	trigger := broker.Trigger{
		Name: name, Batch: 1 + l.below(8), Concurrency: 1 + l.below(3), Delivery: d,
		Filters: []broker.Filter{{Prefix: map[string]string{"id": name + "-"}}},
	}
	_, err := b.Subscribe(t.Context(), trigger, func(_ context.Context, batch []ce.Event) []broker.Result {
		out := make([]broker.Result, len(batch))
		for i, e := range batch {
			time.Sleep(time.Duration(l.below(20_000)) * time.Microsecond)
			l.mu.Lock()
			if l.poison[e.ID()] {
				l.deaths[e.ID()]++
				l.mu.Unlock()
				die()
				<-l.end
				return nil
			}
			l.handled[e.ID()] = true
			l.mu.Unlock()
			out[i].Status = 200
		}
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lives) check(ids []string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var wrong []string
	for _, id := range ids {
		switch {
		case l.poison[id] && !slices.Contains(l.dead, id):
			wrong = append(wrong, id+" is poisonous and no dead letter")
		case l.poison[id] && l.deaths[id] > livesRetry+1+2: // two deaths may have been taken for another's
			wrong = append(wrong, fmt.Sprintf("%s has killed %d processes", id, l.deaths[id]))
		case !l.poison[id] && slices.Contains(l.dead, id):
			wrong = append(wrong, id+" is a dead letter")
		case !l.poison[id] && !l.handled[id]:
			wrong = append(wrong, id+" was not handled")
		}
	}
	return strings.Join(wrong, ", ")
}

func simulateLives(t *testing.T, seed uint64, forget bool) (wrong string) {
	synctest.Test(t, func(t *testing.T) {
		l := &lives{
			rng: rand.New(rand.NewPCG(seed, 0)), log: memory.NewLog(), forget: forget, end: make(chan struct{}),
			poison: map[string]bool{}, handled: map[string]bool{}, deaths: map[string]int{},
		}
		wrong = l.run(t)
		close(l.end)
		time.Sleep(time.Minute) // until the dead have gone
	})
	return wrong
}

// Whatever dies when, exactly the events that kill their process are dead letters, after their attempts. When attempts
// live in memory, poison is tried for ever.
func TestLives(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		if wrong := simulateLives(t, seed, false); wrong != "" {
			t.Errorf("seed %d: %s", seed, wrong)
		}
	}
	for seed := uint64(1); seed <= 200; seed++ {
		if wrong := simulateLives(t, seed, true); wrong != "" {
			t.Logf("attempts in memory: seed %d: %s", seed, wrong)
			return
		}
	}
	t.Error("200 seeds find nothing wrong where attempts live in memory")
}
