package knative

import (
	"net/http"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/internal/pubsubevent"
)

// pushed handles what a push subscription of Pub/Sub sends. Pub/Sub repeats what is not answered by 2xx, also a final
// refusal, as often as the subscription says, and then moves the message to the topic of dead letters.
func (h *Host) pushed(w http.ResponseWriter, r *http.Request) { h.deliveries(w, r, h.readPush) }

// readPush returns the event of a push; none when the function's trigger does not let it through.
func (h *Host) readPush(_ http.Header, body []byte) ([]ce.Event, error) {
	push, err := pubsubevent.ReadPush(body)
	if err != nil {
		return nil, err
	}
	e := push.Event
	if push.DeadFrom != "" && h.m.DeadLetters {
		e = deadLetter(e, push.DeadFrom)
	}
	if h.m.DeadLetters && event.Extension(e, broker.ErrorDest) != "" {
		return []ce.Event{e}, nil // whatever it is
	}
	matcher, err := h.filters()
	if err != nil || !matcher.Match(&e) {
		return nil, err
	}
	return []ce.Event{e}, nil
}

// deadLetter returns an event that a subscription has given up, with the extensions of a dead letter, which Pub/Sub
// does not know.
func deadLetter(e ce.Event, subscription string) ce.Event {
	if event.Extension(e, broker.ErrorDest) != "" {
		return e
	}
	e = e.Clone()
	e.SetExtension(broker.ErrorDest, subscription[strings.LastIndexByte(subscription, '/')+1:])
	e.SetExtension(broker.ErrorCode, int32(http.StatusServiceUnavailable))
	e.SetExtension(broker.ErrorData, "the dead-letter policy has moved it; the log of the function has the reason")
	return e
}
