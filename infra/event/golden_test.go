package event_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/eventtest"
)

// Today's types read what was emitted earlier, and have golden files themselves.
func TestKitGolden(t *testing.T) { eventtest.Golden(t, "testdata", event.KitTypes()) }

// Examples are unchanged by encoding and decoding, and show every field.
func TestKitExamples(t *testing.T) { eventtest.Examples(t, event.KitTypes()) }
