package lifetime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// The end of a lifetime ends the contexts that are bound to it, and those that are bound afterwards.
func TestEnd(t *testing.T) {
	l := lifetime.New()
	before := l.Context()
	bound, cancel := l.Bind(t.Context())
	defer cancel()
	if l.Ended() || before.Err() != nil || bound.Err() != nil {
		t.Fatal("it has ended before End")
	}
	l.End()
	l.End()
	<-l.Done()
	after, cancel := l.Bind(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"before": before, "bound": bound, "after": after} {
		if ctx.Err() != context.Canceled {
			t.Errorf("%s: got %v, want context.Canceled", name, ctx.Err())
		}
	}
	if !l.Ended() {
		t.Error("it has not ended")
	}
}

// A bound context ends by itself, keeps the values of its parent, and its end leaves the lifetime as it was.
func TestBind(t *testing.T) {
	type key struct{}
	l := lifetime.New()
	ctx, cancel := l.Bind(context.WithValue(t.Context(), key{}, 1))
	if ctx.Value(key{}) != 1 {
		t.Error("the value is gone")
	}
	cancel()
	if ctx.Err() == nil || l.Ended() || l.Context().Err() != nil {
		t.Error("want the bound context ended, and nothing else")
	}
	l.End()
}

// A context with a timeout ends at that time, and before with the lifetime; both can be told apart.
func TestBindTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lifetime.New()
		short, releaseShort := l.BindTimeout(t.Context(), time.Second)
		defer releaseShort()
		long, releaseLong := l.BindTimeout(t.Context(), time.Hour)
		defer releaseLong()
		begun := time.Now()
		<-short.Done()
		if took := time.Since(begun); took != time.Second || short.Err() != context.DeadlineExceeded {
			t.Errorf("it ended after %v: %v", took, short.Err())
		}
		if long.Err() != nil {
			t.Errorf("the other one has ended: %v", long.Err())
		}
		if l.End(); long.Err() != context.Canceled {
			t.Errorf("after the lifetime: %v", long.Err())
		}
		released, release := lifetime.New().BindTimeout(t.Context(), time.Hour)
		if release(); released.Err() != context.Canceled {
			t.Errorf("released: %v", released.Err())
		}
	})
}
