package simulation_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// erasing reports whether a mutation takes a person's keys away.
func erasing(m store.Mutation) bool { return bytes.Contains(m.Data, []byte(`"erased":"2`)) }

// Each part of an erasure is needed: without it something tells what was erased, which is found within 200 seeds.
func TestBrokenErasure(t *testing.T) {
	const within = 200
	for name, c := range map[string]struct {
		broken simulation.Broken
		want   string
	}{
		"the archive keeps its keys": {forgetting("person_keys", erasing), "the archive has keys"},
		"functions keep their keys":  {forgetting("_personal", erasing), "a function has its key"},
		"a view is not erased": {forgetting("users", func(m store.Mutation) bool {
			return m.Version > 1 && bytes.Contains(m.Data, []byte(`"deleted":true`)) || m.Data == nil
		}), "a store tells the data"},
		"events are not encrypted": {publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
			return to.Publish(ctx, opened(es)...)
		}), "in the clear"},
		"journals are not encrypted": {committing(
			func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				for i, m := range b.Mutations {
					b.Mutations[i].Data = bytes.ReplaceAll(m.Data, []byte(`"token":"sealed:`), []byte(`"token":"tok_`))
				}
				return db.Commit(ctx, b)
			}), "a journal has a payment token"},
		"erasures are not told": {publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
			var rest []ce.Event
			for _, e := range es {
				if e.Type() != event.DataErased.Name() {
					rest = append(rest, e)
				}
			}
			return to.Publish(ctx, rest...)
		}), "does not tell what it has erased"},
	} {
		t.Run(name, func(t *testing.T) {
			sys := simulation.Shop(c.broken)
			sys.MaxFaults = -1
			found := search(t, simulate.Runner{System: sys, Seeds: within}, func(failed *simulate.Report) bool {
				return slices.ContainsFunc(failed.Violations,
					func(v simulate.Violation) bool { return strings.Contains(v.Text, c.want) })
			})
			if found == nil {
				t.Fatalf("%d seeds do not find that %s", within, name)
			}
		})
	}
}

// opened returns events as they were before personal data was encrypted: of users, with an address.
func opened(es []ce.Event) []ce.Event {
	all := make([]ce.Event, len(es))
	for i, e := range es {
		all[i] = e
		if e.Type() == events.UserRegistered.Name() {
			all[i] = e.Clone()
			all[i].DataEncoded = bytes.ReplaceAll(e.DataEncoded, []byte("erased@erased.invalid"), []byte("ada@example.com"))
		}
	}
	return all
}
