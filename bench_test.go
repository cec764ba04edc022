package ebb

import (
	"context"
	"testing"
)

// What a start costs beside opening a store, by function.
func BenchmarkStart(b *testing.B) {
	for _, name := range []string{"orders", "gateway"} {
		b.Run(name, func(b *testing.B) {
			vars := variables(b, name)
			for b.Loop() {
				f := New()
				if err := f.Start(b.Context(), vars); err != nil {
					b.Fatal(err)
				}
				if err := f.Stop(context.WithoutCancel(b.Context())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
