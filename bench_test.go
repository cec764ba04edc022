package ebb

import (
	"encoding/json"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
)

// What a start costs before anything is opened, by capability.
func BenchmarkCompose(b *testing.B) {
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		b.Fatal(err)
	}
	private, err := ring.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	public, err := json.Marshal(ring.Public())
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"orders", "gateway"} {
		b.Run(name, func(b *testing.B) {
			vars := config.Map(map[string]string{
				"FUNCTION": name, "EBB_STORE": "memory:", "K_SINK": "http://broker.example/shop/default",
				"EBB_VERIFICATION_KEYS": string(public), "EBB_SIGNING_KEYS": string(private),
			})
			for b.Loop() {
				if _, err := compose(vars, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
