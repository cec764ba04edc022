package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kill ends the broker as the death of its process does: nothing that it does from now on reaches the cluster. Its
// partitions are free at once, and not after Config.Lease.
func Kill(b *Broker) {
	type member struct{ group, id string }
	var members []member
	b.mu.Lock()
	for trigger, s := range b.sessions {
		id, _ := s.client.GroupMetadata()
		members = append(members, member{b.group(trigger), id})
	}
	b.mu.Unlock()
	b.lifetime.End()
	other, err := kgo.NewClient(b.cfg.connection()...)
	if err != nil {
		panic(err)
	}
	defer other.Close()
	for _, m := range members {
		request := kmsg.NewPtrLeaveGroupRequest()
		leaver := kmsg.NewLeaveGroupRequestMember()
		leaver.MemberID = m.id
		request.Group, request.Members = m.group, append(request.Members, leaver)
		request.RequestWith(context.Background(), other)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	b.Close(now)
}

// WithMetadataAge sets how old the list of partitions may be.
func (c Config) WithMetadataAge(d time.Duration) Config {
	c.metadataAge = d
	return c
}
