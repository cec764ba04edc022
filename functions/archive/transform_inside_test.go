package archive

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/ebb-dev/ebb/infra/fault"
)

// An evaluation that takes too long is refused as one that costs too much. The end of a request is no such refusal.
func TestEvaluationTakesTooLong(t *testing.T) {
	x, err := compile("where", "data.list.all(a, a > 0)", cel.BoolType)
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]any{"data": map[string]any{"list": []any{1, 2, 3}}}
	if _, err := x.evaluate(t.Context(), data); err != nil {
		t.Error(err)
	}

	x.longest = time.Nanosecond
	_, err = x.evaluate(t.Context(), data)
	if !errors.Is(err, errCostly) || !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "line 1, column 14") {
		t.Errorf("got %v", err)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := x.evaluate(ended, data); !errors.Is(err, context.Canceled) || aboutLetter(err) {
		t.Errorf("got %v", err)
	}
}
