package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// state is what a commit says of a partition. The committed offset is that of the first event that has not finished;
// the rest is in the metadata.
type state struct {
	next    int64        // everything before it has finished, but what is open
	open    []openOffset // ascending
	running bool         // a session hands out events of the partition, or has died doing so
	deaths  int          // how many sessions have died since an event before upTo is open
	upTo    int64        // after the events that may have been in a call at the last death
}

// openOffset is an event that has not finished, with its attempts.
type openOffset struct {
	offset int64
	tries  tries
}

// tries are the attempts at one event.
type tries struct {
	id uint32 // see identity
	delivery.Tries
}

// identity returns a checksum of the event's source and id. Attempts belong to an event and not to its offset, which is
// used again when a topic is made anew.
func identity(e *ce.Event) uint32 {
	h := fnv.New32a()
	h.Write([]byte(e.Source()))
	h.Write([]byte{0})
	h.Write([]byte(e.ID()))
	return h.Sum32()
}

// low returns the offset to commit.
func (s state) low() int64 {
	if len(s.open) > 0 {
		return s.open[0].offset
	}
	return s.next
}

const (
	stateVersion = 1

	// mostState is how many bytes the state has at most: Kafka takes 4096 bytes of metadata by default,
	// offset.metadata.max.bytes, and it is text.
	mostState = 3000
)

// encode returns the state as metadata. What does not fit counts as not finished.
func (s state) encode() string {
	low := s.low()
	var body []byte
	count, last, next := 0, low, s.next
	for _, o := range s.open {
		before := len(body)
		flags := uint64(0)
		if o.tries.Attempts > 0 {
			flags = 1
		}
		if o.tries.Begun {
			flags |= 2
		}
		body = binary.AppendUvarint(body, uint64(o.offset-last)<<2|flags)
		if flags != 0 {
			body = binary.LittleEndian.AppendUint32(body, o.tries.id)
			body = binary.AppendUvarint(body, uint64(o.tries.Attempts))
		}
		if len(body) > mostState-40 {
			body, next = body[:before], o.offset
			break
		}
		count, last = count+1, o.offset
	}
	b := []byte{stateVersion, 0}
	if s.running {
		b[1] = 1
	}
	b = binary.AppendUvarint(b, uint64(next-low))
	b = binary.AppendUvarint(b, uint64(s.deaths))
	b = binary.AppendUvarint(b, uint64(max(0, s.upTo-low)))
	b = binary.AppendUvarint(b, uint64(count))
	return base64.RawStdEncoding.EncodeToString(append(b, body...))
}

var errState = errors.New("the metadata of a commit is cut short")

// decodeState returns the state of a commit. Without metadata everything before the offset has finished.
func decodeState(low int64, metadata string) (state, error) {
	s, fresh := state{next: low}, state{next: low}
	if metadata == "" {
		return s, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(metadata)
	if err != nil || len(b) < 2 || b[0] != stateVersion {
		return fresh, fmt.Errorf("the metadata of a commit is not Ebb's: %.20q", metadata)
	}
	s.running = b[1] == 1
	b = b[2:]
	ok := true
	number := func() int64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) < 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return int64(v)
	}
	s.next = low + number()
	s.deaths = int(number())
	s.upTo = low + number()
	count, last := number(), low
	for range count {
		v := number()
		o := openOffset{offset: last + v>>2}
		if v&3 != 0 {
			if len(b) < 4 {
				return fresh, errState
			}
			o.tries.id = binary.LittleEndian.Uint32(b)
			b = b[4:]
			o.tries.Attempts, o.tries.Begun = int(number()), v&2 != 0
		}
		if !ok {
			return fresh, errState
		}
		s.open = append(s.open, o)
		last = o.offset
	}
	if !ok || s.next < last {
		return fresh, errState
	}
	return s, nil
}
