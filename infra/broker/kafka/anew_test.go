package kafka_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
)

// A topic that is deleted and made anew while it is served is read from its beginning, and published to: its offsets
// are used again for other events. Clusters before 2.8 do not tell one topic of a name from another.
func TestTopicMadeAnew(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{"with ids": nil, "without": {kfake.MaxVersions(kversion.V2_7_0())}} {
		t.Run(name, func(t *testing.T) {
			c := fake(t, opts...)
			b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1}.WithMetadataAge(200*time.Millisecond))
			var j journal
			subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
			publish(t, b, brokertest.Event("1", "k"), brokertest.Event("2", "k"))
			await(t, "the first events", func() bool { return len(j.ids()) == 2 })
			admin := kadm.NewClient(stranger(t, c))
			if _, err := admin.DeleteTopic(t.Context(), "ebb"); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "ebb"); err != nil {
				t.Fatal(err)
			}
			await(t, "the new topic", func() bool { return b.Publish(t.Context(), brokertest.Event("3", "k")) == nil })
			await(t, "the event of the new topic", func() bool { return len(j.ids()) >= 3 })
			if got := j.ids(); got[2] != "3" {
				t.Errorf("got %v", got)
			}
		})
	}
}
