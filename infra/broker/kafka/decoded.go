package kafka

import (
	"sync"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recordID names a record. Its time tells it from another one at the offset, in a topic that was made anew or has lost
// its end.
type recordID struct {
	topic     string
	partition int32
	offset    int64
	time      int64 // Unix milliseconds
}

func idOf(r *kgo.Record) recordID {
	return recordID{r.Topic, r.Partition, r.Offset, r.Timestamp.UnixMilli()}
}

// decoding is what a record was decoded to.
type decoding struct {
	event *ce.Event
	err   error // it is no event
}

// decodedEvents holds what was decoded last, since all triggers of a process read the same records at about the same
// time. Its methods may be called concurrently.
type decodedEvents struct {
	mu    sync.Mutex
	known map[recordID]decoding
	order []recordID // a ring
	next  int
	bytes int
}

// The bounds of decodedEvents.
const (
	mostDecoded      = 4096
	mostDecodedBytes = 16 << 20
)

func newDecodedEvents() *decodedEvents { return &decodedEvents{known: make(map[recordID]decoding)} }

// of returns what the record is decoded to.
func (d *decodedEvents) of(r *kgo.Record, limit int) decoding {
	id := idOf(r)
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[id]; ok {
		return known
	}
	e, err := decode(r, limit)
	out := decoding{e, err}
	d.add(id, out)
	return out
}

func (d *decodedEvents) add(id recordID, out decoding) {
	size := func(o decoding) int {
		if o.event == nil {
			return 0
		}
		return len(o.event.DataEncoded)
	}
	if len(d.order) < mostDecoded {
		d.order = append(d.order, id)
	} else {
		d.bytes -= size(d.known[d.order[d.next]])
		delete(d.known, d.order[d.next])
		d.order[d.next] = id
		d.next = (d.next + 1) % mostDecoded
	}
	d.known[id] = out
	if d.bytes += size(out); d.bytes > mostDecodedBytes {
		clear(d.known)
		d.order, d.next, d.bytes = d.order[:0], 0, 0
	}
}
