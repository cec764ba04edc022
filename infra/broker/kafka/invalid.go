package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The headers of a record in the topic for records that are no events, beside its own.
const (
	invalidReason    = "ebb-error"
	invalidTopic     = "ebb-topic"
	invalidPartition = "ebb-partition"
	invalidOffset    = "ebb-offset"
)

// invalidRecords knows which records this process has copied last, so that they are copied once for all triggers.
type invalidRecords struct {
	mu     sync.Mutex
	copied map[recordID]bool
}

// mostCopied limits invalidRecords.
const mostCopied = 4096

// copyInvalid copies a record that is no event to where an operator finds it. Another process whose triggers meet the
// record does so too: the key of the copy is the record's topic, partition and offset. It returns when the copy is as
// durable as an event that was published.
func (b *Broker) copyInvalid(ctx context.Context, r *kgo.Record, reason error) error {
	b.invalid.mu.Lock()
	defer b.invalid.mu.Unlock()
	id := idOf(r)
	if b.invalid.copied[id] {
		return nil
	}
	out := &kgo.Record{
		Topic: b.invalidTopic(), Key: fmt.Appendf(nil, "%s/%d/%d", r.Topic, r.Partition, r.Offset), Value: r.Value,
		Headers: append(r.Headers[:len(r.Headers):len(r.Headers)],
			kgo.RecordHeader{Key: invalidReason, Value: []byte(reason.Error())},
			kgo.RecordHeader{Key: invalidTopic, Value: []byte(r.Topic)},
			kgo.RecordHeader{Key: invalidPartition, Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
			kgo.RecordHeader{Key: invalidOffset, Value: strconv.AppendInt(nil, r.Offset, 10)},
		),
	}
	err := b.client.ProduceSync(ctx, out).FirstErr()
	if errors.Is(err, kerr.MessageTooLarge) { // with the headers, or in a topic with other settings
		out = &kgo.Record{Topic: out.Topic, Key: out.Key, Headers: out.Headers[len(r.Headers):], Value: []byte{}}
		err = b.client.ProduceSync(ctx, out).FirstErr()
	}
	if err != nil {
		return err
	}
	b.cfg.Logger.Error("a record is no event and is passed over; see the copy", "topic", r.Topic,
		"partition", r.Partition, "offset", r.Offset, "copy", out.Topic, "error", reason)
	if b.invalid.copied == nil || len(b.invalid.copied) >= mostCopied {
		b.invalid.copied = make(map[recordID]bool)
	}
	b.invalid.copied[id] = true
	return nil
}
