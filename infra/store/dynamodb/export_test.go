package dynamodb

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
)

// With sets the transport of the connection.
func (c Config) With(t http.RoundTripper) Config {
	c.transport = t
	return c
}

// SetPruneEvery changes pruneEvery until restore is called.
func SetPruneEvery(n int64) (restore func()) {
	before := pruneEvery
	pruneEvery = n
	return func() { pruneEvery = before }
}

// SetLag changes lag and overlap until restore is called.
func SetLag(l, o time.Duration) (restore func()) {
	beforeLag, beforeOverlap := lag, overlap
	lag, overlap = l, o
	return func() { lag, overlap = beforeLag, beforeOverlap }
}

// SetNow sets the clock that dates marks.
func (s *Store) SetNow(now func() time.Time) { s.now.Store(&now) }

// Count returns the number of items of each partition, and of marks as "marks".
func (s *Store) Count(t *testing.T) map[string]int {
	settings, err := awsconfig.Load(t.Context(), s.config.Region)
	if err != nil {
		t.Fatal(err)
	}
	client, counts := dynamodb.NewFromConfig(settings), map[string]int{}
	in := &dynamodb.ScanInput{TableName: &s.config.Table, ConsistentRead: aws.Bool(true)}
	for {
		out, err := client.Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range out.Items {
			counts[text(a, partition)]++
			if text(a, deleted) != "" {
				counts["marks"]++
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return counts
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}
