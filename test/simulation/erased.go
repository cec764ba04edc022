package simulation

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// withKeys returns a stored event of the archive as it came, with the key that the archive stores apart.
func withKeys(e ce.Event, keys map[string][]string) ce.Event {
	ref := event.Extension(e, "ebbpersonkeyref")
	if ref == "" {
		return e
	}
	e.SetExtension("ebbpersonkeyref", nil)
	for _, wrapped := range keys[personID(event.Extension(e, event.Person))] {
		if sum := sha256.Sum256([]byte(wrapped)); hex.EncodeToString(sum[:8]) == ref {
			e.SetExtension(event.PersonalKey, wrapped)
		}
	}
	return e
}

func personID(person string) string {
	sum := sha256.Sum256([]byte(person))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// archivedKeys returns the keys of the archive by person.
func archivedKeys(sim *simulate.Simulation) map[string][]string {
	keys := map[string][]string{}
	for _, d := range sim.Documents("archive", "person_keys") {
		var doc struct{ Keys []string }
		_ = json.Unmarshal(d.Data, &doc)
		keys[d.ID] = doc.Keys
	}
	return keys
}

// checkErased checks that payment tokens and the data of registered users are in no event in the clear, and that
// nothing tells the data of an erased user any more: no document, and no key.
func (s *run) checkErased(sim *simulate.Simulation) {
	for _, e := range sim.Published() {
		if e.Source() == "/functions/users" && bytes.Contains(e.DataEncoded, []byte("ada@example.com")) ||
			e.Source() == "/functions/orders" && bytes.Contains(e.DataEncoded, []byte(`"token":"tok_`)) {
			sim.Violated("an event has personal data in the clear: %s", e.Type()+" "+e.ID())
		}
	}
	for _, d := range append(sim.Documents("orders", "orders"), sim.Documents("orders", "orders_events")...) {
		if bytes.Contains(d.Data, []byte(`"token":"tok_`)) {
			sim.Violated("a journal has a payment token in the clear: %s", d.ID)
		}
	}
	for _, e := range sim.Published() {
		if e.Type() != event.PersonErased.Name() || e.Source() != "/functions/users" {
			continue
		}
		sim.Count("erased", 1)
		s.checkForgotten(sim, e.Subject())
	}
}

func (s *run) checkForgotten(sim *simulate.Simulation, person string) {
	id := personID(person)
	if n := len(archivedKeys(sim)[id]); n > 0 {
		sim.Violated("the archive has keys of an erased person: %s", fmt.Sprint(person, ": ", n))
	}
	told := map[string]bool{}
	for _, e := range sim.Published() {
		if e.Type() == event.DataErased.Name() && e.Subject() == person {
			told[strings.TrimPrefix(e.Source(), "/functions/")] = true
		}
	}
	for _, f := range s.functions {
		for _, c := range sim.Collections(f) {
			for _, d := range sim.Documents(f, c) {
				if c == "_personal" && d.ID == id && bytes.Contains(d.Data, []byte(`"key":`)) {
					sim.Violated("a function has its key of an erased person: %s", f+" "+person)
				}
				if c == "_personal" && d.ID == id && !told[f] {
					sim.Violated("a function does not tell what it has erased: %s", f+" "+person)
				}
				if bytes.Contains(d.Data, []byte("ada@example.com")) || bytes.Contains(d.Data, []byte("Ada King")) {
					sim.Violated("a store tells the data of an erased person: %s", f+" "+c+" "+d.ID)
				}
			}
		}
	}
	if !told["archive"] || !told["users"] {
		sim.Violated("the audit of an erasure is not complete: %s", fmt.Sprint(told))
	}
}
