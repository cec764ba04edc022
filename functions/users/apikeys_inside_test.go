package users

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// A user has as many good keys as the limit. Revoked ones make room, and of these the oldest are forgotten.
func TestNumberOfAPIKeys(t *testing.T) {
	now := time.Unix(1000, 0)
	good, revoked := apiKey{ExpiresAt: now.Add(time.Second)}, apiKey{ExpiresAt: now.Add(time.Second), RevokedAt: now}
	known, list := map[string]apiKey{}, keyList{}
	add := func() error {
		id := fmt.Sprint(len(known))
		next, forgotten, err := list.with(id, known, now)
		if err != nil {
			return err
		}
		known[id], list = good, next
		if len(next.Keys) > maxGoodKeys+maxRevokedKeys {
			t.Fatalf("the list has %d keys", len(next.Keys))
		}
		for _, id := range forgotten {
			if known[id].good(now) || slices.Contains(next.Keys, id) {
				t.Fatalf("it forgets %s, which is good or listed", id)
			}
		}
		return nil
	}
	for range maxGoodKeys {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(); !fault.Is(err, fault.Conflict) {
		t.Errorf("one more: got %v", err)
	}
	for range 3 * maxRevokedKeys {
		known[list.Keys[len(list.Keys)-1]] = revoked
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	if len(list.Keys) != maxGoodKeys+maxRevokedKeys {
		t.Errorf("the list has %d keys", len(list.Keys))
	}
}
