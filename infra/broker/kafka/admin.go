package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// makeTopics makes the broker's topics unless they are there. The topics of other producers must be there.
func (b *Broker) makeTopics(ctx context.Context) error {
	admin := kadm.NewClient(b.client)
	found, err := admin.ListTopics(ctx, append([]string{b.cfg.Name, b.invalidTopic()}, b.cfg.Topics...)...)
	if err != nil {
		return err
	}
	for _, topic := range b.cfg.Topics {
		if !found.Has(topic) {
			return fault.New(fault.Invalid, "the topic %q is not there, or may not be read", topic)
		}
	}
	replicas := int16(-1)
	if b.cfg.Replicas > 0 {
		replicas = int16(b.cfg.Replicas)
	}
	for topic, partitions := range map[string]int{b.cfg.Name: b.cfg.Partitions, b.invalidTopic(): 1} {
		if found.Has(topic) {
			continue
		}
		made, err := admin.CreateTopic(ctx, int32(partitions), replicas, nil, topic)
		switch {
		case err == nil || errors.Is(made.Err, kerr.TopicAlreadyExists):
		case made.Err != nil && !errors.Is(err, kerr.TopicAuthorizationFailed) &&
			!errors.Is(err, kerr.ClusterAuthorizationFailed):
			return fault.Wrap(err, fault.Invalid, "the topic %q is not there and cannot be made; make it yourself", topic)
		default:
			return err
		}
	}
	return nil
}

// source is the Broker as package delivery sees it.
type source Broker

// Register implements delivery.Source. For a trigger that has no commits it commits the ends of all partitions. Kafka
// has no commit on condition, and two processes may commit one after the other. Each has seen the ends before it saw
// that there was no commit: whatever is published after the first of them has returned is behind both.
func (s *source) Register(ctx context.Context, trigger string) error {
	b := (*Broker)(s)
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	admin, group := kadm.NewClient(b.client), b.group(trigger)
	if known, err := b.isKnown(ctx, admin, group); known || err != nil {
		return err
	}
	ends, err := b.ends(ctx, admin)
	if err != nil {
		return err
	}
	if known, err := b.isKnown(ctx, admin, group); known || err != nil { // made known by another process meanwhile
		return err
	}
	commits := kadm.Offsets{}
	ends.Each(func(o kadm.Offset) { commits.AddOffset(o.Topic, o.Partition, o.At, noEpoch) })
	err = admin.CommitAllOffsets(ctx, group, commits)
	if errors.Is(err, kerr.UnknownMemberID) { // another process is a member, and so has made it known
		return nil
	}
	return err
}

// noEpoch is the leader's epoch of all commits. The client would ask the leader about another one before it reads the
// partition, and read the others meanwhile without waiting for it.
const noEpoch = -1

// requestTimeout limits requests that are no fetch.
const requestTimeout = 20 * time.Second

// isKnown reports whether the group has a commit in one of the topics.
func (b *Broker) isKnown(ctx context.Context, admin *kadm.Client, group string) (bool, error) {
	commits, err := admin.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	known := false
	commits.Each(func(o kadm.OffsetResponse) { known = known || o.Err == nil && o.At >= 0 })
	return known, commits.Error()
}

// ends returns the ends of all partitions. It waits for the leaders of a topic that was just made.
func (b *Broker) ends(ctx context.Context, admin *kadm.Client) (kadm.Offsets, error) {
	for {
		ends, err := admin.ListCommittedOffsets(ctx, b.topics()...)
		if err == nil {
			err = ends.Error()
		}
		if err == nil || !kerr.IsRetriable(err) || ctx.Err() != nil {
			return ends.Offsets(), err
		}
		delivery.Pause(ctx, 50*time.Millisecond)
	}
}

// deleteGroup drops the commits of a trigger.
func (b *Broker) deleteGroup(ctx context.Context, trigger string) error {
	deleted, err := kadm.NewClient(b.client).DeleteGroup(ctx, b.group(trigger))
	switch {
	case err == nil || errors.Is(err, kerr.GroupIDNotFound) || errors.Is(deleted.Err, kerr.GroupIDNotFound):
		return nil
	case errors.Is(err, kerr.NonEmptyGroup) || errors.Is(deleted.Err, kerr.NonEmptyGroup):
		return fault.New(fault.Conflict, "trigger %q is being served", trigger)
	}
	return err
}
