package kafka_test

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
)

// While records that are no events cannot be copied, a trigger reads only so far ahead: each of them is held in memory.
// When they can, it goes on.
func TestInvalidRecordsAreBounded(t *testing.T) {
	c := fake(t)
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1})
	details, err := kadm.NewClient(stranger(t, c)).ListTopics(t.Context(), "ebb-invalid")
	if err != nil {
		t.Fatal(err)
	}
	invalid := [16]byte(details["ebb-invalid"].ID)
	var refusals atomic.Int64
	allowed := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		request := r.(*kmsg.ProduceRequest)
		select {
		case <-allowed:
			return nil, nil, false
		default:
		}
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range request.Topics {
			if topic.Partitions[0].Partition != 0 || topic.TopicID != invalid {
				return nil, nil, false
			}
			refused := kmsg.NewProduceResponseTopic()
			refused.Topic, refused.TopicID = topic.Topic, topic.TopicID
			p := kmsg.NewProduceResponseTopicPartition()
			p.ErrorCode = kerr.TopicAuthorizationFailed.Code
			refused.Partitions = append(refused.Partitions, p)
			response.Topics = append(response.Topics, refused)
		}
		refusals.Add(1)
		return response, nil, true
	})
	const records = 1500
	var all []*kgo.Record
	for range records {
		all = append(all, &kgo.Record{Topic: "ebb", Value: []byte("no event")})
	}
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	produce(t, stranger(t, c), all...)
	publish(t, b, brokertest.Event("1", "k"))
	await(t, "attempts again", func() bool { return refusals.Load() > 700 })
	if b.Stats()[0].Lag == 0 {
		t.Error("all records are held in memory")
	}
	close(allowed)
	j.await(t, "1")
}
