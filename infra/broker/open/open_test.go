package open_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/open"
	_ "github.com/ebb-dev/ebb/infra/broker/open/aws"
	"github.com/ebb-dev/ebb/infra/fault"
)

var write = flag.Bool("write", false, "write the table of docs/brokers.md")

// valid lists valid URLs; their brokers need not exist.
var valid = []string{
	"amqp://a", "amqps://u:p%40ss@a:5671/shop?name=shop_2&shards=4&prefetch=10&cacertfile=/ca.pem",
	"nats:/tmp/broker", "nats://a:4222", "nats://user:pass@a:4222,b:4222?name=shop&replicas=3",
	"kafka://a:9092", "kafka://user:p%40ss@a:9092,[::1]:9092?name=shop&topics=x,y&partitions=3&replicas=3",
	"kafka://user:password@a:9092?tls=true&sasl=plain&compression=zstd",
	"redis://a", "redis://user:pass@a:6379/2?name=shop", "rediss://a", "redis+unix:/run/redis.sock?name=shop",
	"sqs:", "sqs://eu-central-1", "sqs://eu-central-1?name=shop-dev&visibility=30&wait=20&blobs=s3://shop-blobs",
	"sqs:?blobs=file:/var/blobs&wait=0",
	"pubsub://shop-123456", "pubsub://shop?name=shop-dev&visibility=30&wait=0",
	"pubsub://shop?blobs=gs://shop-blobs", "pubsub://shop?blobs=file:/var/blobs",
}

// invalid maps invalid URLs to a part of their errors.
var invalid = map[string]string{
	"amqp:a":                     "did you mean amqp://?",
	"ampq://a":                   "did you mean amqp://?",
	"amqp://":                    "has no host",
	"amqp://u:pa%ss@a":           "is not a valid URL",
	"amqp://u:p#x@a":             "is not a valid URL",
	"amqp://a:port":              "is not a valid URL",
	"amqp://a?name=a.b":          "has an invalid name",
	"amqp://a?shards=0":          "has invalid shards",
	"amqp://a?prefetch=all":      "has an invalid prefetch",
	"amqp://a?shards=1&shards=2": "has a parameter twice",
	"amqp://a?queue=x":           "has an unknown parameter (use name, shards,",
	"amqp://a?name=%zz":          "has invalid parameters",
	"":                           "is empty (use nats:PATH",
	"broker":                     "has an unknown scheme (use nats:PATH",
	"http://a:4222":              "has an unknown scheme (use",
	"natz://a:4222":              "did you mean nats:?",
	"NATS://a:4222":              "did you mean nats:?",
	"nats:":                      "has no path",
	"nats:/tmp/x?name=y":         "has a ?, # or @ in its path",
	"nats://":                    "has no host",
	"nats://a:4222/orders":       "has text after its host",
	"nats://a:port":              "is not a valid URL",
	"nats://a?stream=x":          "has an unknown parameter (use name or replicas)",
	"nats://a?name=x&name=y":     "has a parameter twice",
	"nats://a?name=x.y":          "has an invalid name",
	"nats://a?replicas=many":     "has invalid replicas",
	"nats://u:pass%@word@a":      "is not a valid URL",
	"nats://a?name=%zz":          "has invalid parameters",
	"nats://a:4222,?name=shop":   "has no host",

	"kafka:a:9092":                          "did you mean kafka://?",
	"kafka://":                              "has a host without a port",
	"kafka://a":                             "has a host without a port",
	"kafka://a:0":                           "has a host without a port",
	"kafka://a:9092/orders":                 "has text after its host",
	"kafka://:pass@a:9092":                  "want kafka://USER:PASSWORD@HOST:9092",
	"kafka://u:pass%@word@a:9092":           "is not a valid URL",
	"kafka://a:9092?stream=x":               "has an unknown parameter (use name,",
	"kafka://a:9092?name=x&name=y":          "has a parameter twice",
	"kafka://a:9092?name=x/y":               "has an invalid name or invalid topics",
	"kafka://a:9092?name=x&topics=x":        "has an invalid name or invalid topics",
	"kafka://a:9092?partitions=0":           "has invalid partitions: want a number from 1 to 1000",
	"kafka://a:9092?tls=maybe":              "has an invalid tls",
	"kafka://u:p@a:9092?sasl=md5":           "has an invalid sasl: want one of plain",
	"kafka://a:9092?sasl=plain&tls=true":    "has sasl without a user",
	"kafka://u:p@a:9092?sasl=plain":         "the password would travel in clear text",
	"kafka://a:9092?compression=arithmetic": "has an invalid compression: want one of gzip",

	"redis://":                "has no host",
	"redis://a/orders":        "no number of a database",
	"redis://a?nam=x":         "has an unknown parameter (use name)",
	"redis://a?name=x&name=y": "has a parameter twice",
	"redis://a?name={x}":      "has an invalid name",
	"redis://u:pass%@word@a":  "is not a valid URL",
	"redis+unix:":             "has no path",
	"redsi://a":               "did you mean redis://?",

	"sqs:eu-central-1":              "has text after its region",
	"sqs://eu-central-1/shop":       "has text after its region",
	"sqs://eu-central-1:80":         "has text after its region",
	"sqs://key:secret@eu-central-1": "has a user; credentials come from variables",
	"sqs://EU_central":              "has an invalid region",
	"sqs://a?nam=x":                 "has an unknown parameter (use name, visibility, wait or blobs)",
	"sqs://a?name=a.b":              "has an invalid name",
	"sqs://a?name=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx": "has a name of more than 40 characters",
	"sqs://a?visibility=0":      "has an invalid visibility: want a number from 1",
	"sqs://a?wait=21":           "has an invalid wait: want a number from 1 to 20",
	"sqs://a?blobs=shop":        "has invalid blobs: want s3://BUCKET or file:PATH",
	"sqs://a?blobs=s3://shop/x": "has invalid blobs",
	"sqss://a":                  "did you mean sqs:?",

	"pubsub:shop":                  "did you mean pubsub://?",
	"pubsub://":                    "has no project",
	"pubsub://shop/topics":         "has text after its project",
	"pubsub://shop?blobs=s3://b":   "has invalid blobs: want gs://BUCKET or file:PATH",
	"pubsub://shop?blobs=gs://":    "has invalid blobs",
	"pubsub://shop:80":             "has text after its project",
	"pubsub://key:secret@shop":     "has a user; credentials are those of the environment",
	"pubsub://Shop_1":              "has an invalid project",
	"pubsub://shop?name=1a":        "has an invalid name",
	"pubsub://shop?name=google":    "has an invalid name",
	"pubsub://shop?name=":          "has an invalid name",
	"pubsub://shop?visibility=9":   "has an invalid visibility: want a number from 10 to 600",
	"pubsub://shop?visibility=601": "has an invalid visibility",
	"pubsub://shop?wait=1":         "has an invalid wait: want 0",
	"pubsub://shop?nam=x":          "has an unknown parameter (use name, visibility, wait or blobs)",
	"pubsub://shop?name=a&name=b":  "has a parameter twice",
}

func TestValidURLs(t *testing.T) {
	for _, url := range valid {
		if opener, err := open.ByURL(url); err != nil || opener == nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The error of an invalid URL is one line and a fault.Invalid.
func TestInvalidURLs(t *testing.T) {
	for url, want := range invalid {
		opener, err := open.ByURL(url)
		if opener != nil || !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), want) {
			t.Errorf("%q: got %v, want %q", url, err, want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", url, err)
		}
	}
}

// No error contains a part of a password, wherever in the URL it is.
func TestErrorsHaveNoPassword(t *testing.T) {
	const password = "hunter2%"
	for url := range invalid {
		for i := range url {
			if _, err := open.ByURL(url[:i] + password + url[i:]); err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v", url[:i]+password+url[i:], err)
			}
		}
	}
}

// A broker that is away gives one sentence, and no broker.
func TestAway(t *testing.T) {
	for _, url := range []string{
		"nats://user:secret@127.0.0.1:1", "kafka://user:secret@127.0.0.1:1", "redis://user:secret@127.0.0.1:1",
	} {
		opener, err := open.ByURL(url)
		if err != nil {
			t.Fatal(url, err)
		}
		b, err := opener(t.Context(), broker.Options{})
		if b != nil || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: got %v, %v", url, b, err)
		}
		if text := fault.Public(err); strings.Contains(text, "\n") || strings.Contains(text, "secret") {
			t.Errorf("%s: %s", url, text)
		}
	}
}

// The table of docs/brokers.md is the one of the drivers.
func TestTable(t *testing.T) {
	const (
		file  = "../../../docs/brokers.md"
		begin = "<!-- written by go test ./infra/broker/open -write -->\n"
		end   = "<!-- end -->\n"
	)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	old, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table: want %q and %q", file, begin, end)
	}
	table := open.Table()
	if old == table {
		return
	}
	if !*write {
		t.Fatalf("%s differs from the drivers' capabilities; run go test ./infra/broker/open -write", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
