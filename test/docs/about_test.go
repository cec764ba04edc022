package docs

import (
	"os"
	"strings"
	"testing"
)

// The list in docs/about.md of what comes with the kit is complete: each driver of a store and of a broker, and each
// host.
func TestAboutNamesWhatComesWithTheKit(t *testing.T) {
	about, err := os.ReadFile("../../docs/about.md")
	if err != nil {
		t.Fatal(err)
	}
	for folder, words := range map[string]map[string]string{ // "": no driver
		"infra/store": {
			"dynamodb": "DynamoDB", "firestore": "Firestore", "memory": "stores in memory", "postgres": "PostgreSQL",
			"sqlite": "SQLite", "golden": "", "internal": "", "open": "", "storetest": "",
		},
		"infra/broker": {
			"kafka": "Kafka", "knative": "Knative has", "memory": "brokers in memory", "memqueue": "brokers in memory",
			"nats": "NATS JetStream", "pubsub": "Pub/Sub", "rabbitmq": "RabbitMQ", "redis": "Redis", "sqs": "SNS and SQS",
			"breaker": "", "brokertest": "", "conformance": "", "httpapi": "", "internal": "", "open": "",
		},
		"infra/host": {
			"knative": "for Knative", "lambda": "AWS Lambda", "local": "one process", "hosttest": "", "internal": "",
			"lambdarun": "", "memlimit": "", "run": "",
		},
	} {
		entries, err := os.ReadDir("../../" + folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			word, known := words[e.Name()]
			if !known || !strings.Contains(strings.Join(strings.Fields(string(about)), " "), word) {
				t.Errorf("docs/about.md does not name %s/%s (%q)", folder, e.Name(), word)
			}
		}
	}
	if strings.Contains(string(about), "no host for") {
		t.Error("docs/about.md says that a host is missing")
	}
}
