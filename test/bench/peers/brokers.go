package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/open"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq/rabbitmqtest"
	"github.com/ebb-dev/ebb/test/shop"
)

// ours opens the driver of a URL.
func ours(url string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		opener, err := open.ByURL(url)
		if err != nil {
			return nil, err
		}
		b, err := opener(ctx, broker.Options{})
		if err != nil {
			return nil, err
		}
		return oursFlow(ctx, b, func() {})
	}
}

// watermillAMQP waits for RabbitMQ's confirmation of each message, as ours does, and has a quorum queue too.
func watermillAMQP(url string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		c := wmamqp.NewDurablePubSubConfig(url, wmamqp.GenerateQueueNameTopicNameWithSuffix("watermill"))
		c.Publish.ConfirmDelivery, c.Publish.ChannelPoolSize = true, publishers
		c.Consume.Qos.PrefetchCount = window
		c.Queue.Arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
		sub, err := wmamqp.NewSubscriber(c, watermill.NopLogger{})
		if err != nil {
			return nil, err
		}
		pub, err := wmamqp.NewPublisher(c, watermill.NopLogger{})
		if err != nil {
			_ = sub.Close()
			return nil, err
		}
		return watermillFlow(ctx, pub, sub, func() { _ = pub.Close(); _ = sub.Close() })
	}
}

func watermillRedis(url string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		options, err := redis.ParseURL(url)
		if err != nil {
			return nil, err
		}
		options.PoolSize = 2 * publishers
		client := redis.NewClient(options)
		sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{Client: client, ConsumerGroup: "bench"},
			watermill.NopLogger{})
		if err == nil {
			var pub *redisstream.Publisher
			pub, err = redisstream.NewPublisher(redisstream.PublisherConfig{Client: client}, watermill.NopLogger{})
			if err == nil {
				return watermillFlow(ctx, pub, sub, func() { _ = pub.Close(); _ = sub.Close(); _ = client.Close() })
			}
			_ = sub.Close()
		}
		_ = client.Close()
		return nil, err
	}
}

// watermillKafka waits for all replicas that are in sync, as ours does.
func watermillKafka(address string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		consumer := wmkafka.DefaultSaramaSubscriberConfig()
		consumer.Consumer.Offsets.Initial = sarama.OffsetOldest
		sub, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
			Brokers: []string{address}, Unmarshaler: wmkafka.DefaultMarshaler{}, ConsumerGroup: "bench",
			OverwriteSaramaConfig:  consumer,
			InitializeTopicDetails: &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1},
		}, watermill.NopLogger{})
		if err != nil {
			return nil, err
		}
		if err := sub.SubscribeInitialize("bench"); err != nil {
			_ = sub.Close()
			return nil, err
		}
		producer := wmkafka.DefaultSaramaSyncPublisherConfig()
		producer.Producer.RequiredAcks = sarama.WaitForAll
		pub, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
			Brokers: []string{address}, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: producer,
		}, watermill.NopLogger{})
		if err != nil {
			_ = sub.Close()
			return nil, err
		}
		return watermillFlow(ctx, pub, sub, func() { _ = pub.Close(); _ = sub.Close() })
	}
}

// brokers compares our drivers with Watermill's on the same server.
func (b *bench) brokers(ctx context.Context) ([]comparison, error) {
	wm := module("github.com/ThreeDotsLabs/watermill")
	how := fmt.Sprintf("%d publishers of one event of %d bytes at a time, at most %d not yet handled, one receiver; the "+
		"broker on this machine. p50 and p99 from publish to handled.", publishers, len(payload), window)
	compare := func(title, client, adapter, about string, our, their func(context.Context) (*opened, error), absent string,
	) comparison {
		client = strings.TrimPrefix(client, "github.com/") + " " + module(client)
		adapter = "watermill-" + adapter + " " + module("github.com/ThreeDotsLabs/watermill-"+adapter)
		return comparison{title: "Publish to handled on " + title, how: how, contenders: []contender{
			{name: "ebb on " + title, version: "this tree, " + client, open: our, absent: absent},
			{name: "Watermill on " + title, version: wm + ", " + adapter, note: about, open: their, absent: absent},
		}}
	}
	url, absent, err := b.startRabbitMQ()
	if err != nil {
		return nil, err
	}
	out := []comparison{compare("RabbitMQ", "github.com/rabbitmq/amqp091-go", "amqp/v3",
		"both with confirms and quorum queues; Watermill with 128 channels", ours(url), watermillAMQP(url), absent)}
	address, absent, err := b.startRedis(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, compare("Redis", "github.com/redis/go-redis/v9", "redisstream",
		"a stream, appendfsync always", ours("redis://"+address), watermillRedis("redis://"+address), absent))
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return nil, err
	}
	b.after(cluster.Close)
	at := cluster.ListenAddrs()[0]
	return append(out, compare("Kafka (franz-go's fake cluster)", "github.com/twmb/franz-go", "kafka/v3",
		"4 partitions, acknowledged by all replicas, in memory",
		ours("kafka://"+at+"?partitions=4"), watermillKafka(at), "")), nil
}

func (b *bench) startRabbitMQ() (url, absent string, err error) {
	s, err := rabbitmqtest.Start()
	if errors.Is(err, rabbitmqtest.ErrAbsent) {
		return "", err.Error(), nil
	}
	if err != nil {
		return "", "", err
	}
	b.after(s.Remove)
	return s.URL(), "", nil
}

func (b *bench) startRedis(ctx context.Context) (address, absent string, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", "not installed: apt-get install redis-server", nil
	}
	if address, err = shop.FreeAddress(); err != nil {
		return "", "", err
	}
	port := address[strings.LastIndexByte(address, ':')+1:]
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	p, err := start(ctx, nil, []string{address}, program, "--bind", "127.0.0.1", "--port", port, "--save", "",
		"--dir", b.folder("redis"), "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
	if err != nil {
		return "", "", err
	}
	b.after(p.stop)
	return address, "", nil
}
