package event_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/eventtest"
)

// Today's types read what was emitted earlier, and are recorded themselves.
func TestKitGolden(t *testing.T) { eventtest.Golden(t, "testdata", event.KitTypes()) }

// Examples come back as they were, and show every field.
func TestKitExamples(t *testing.T) { eventtest.Examples(t, event.KitTypes()) }
