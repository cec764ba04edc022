// Package sqstest gives tests an emulator of SNS and SQS.
package sqstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

// Need has the AWS clients of this process talk to an emulator, or skips the test and says what is missing.
func Need(t testing.TB) {
	t.Helper()
	awstest.Need(t)
}

// Stop ends the emulator. TestMain calls it after the tests.
func Stop() { awstest.Stop() }

// Drained waits until no message is in the queues of triggers whose names begin with the prefix. The error of an ended
// context names a queue that still has some.
func Drained(ctx context.Context, prefix string) error {
	settings, err := awsconfig.Load(ctx, "")
	if err != nil {
		return err
	}
	client := sqs.NewFromConfig(settings)
	for {
		busy, err := waiting(ctx, client, prefix)
		if err == nil && busy == "" {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err, errors.New(busy))
		}
	}
}

// waiting names a queue with messages; "": there is none.
func waiting(ctx context.Context, client *sqs.Client, prefix string) (string, error) {
	list, err := client.ListQueues(ctx, &sqs.ListQueuesInput{QueueNamePrefix: &prefix})
	if err != nil {
		return "", err
	}
	for _, url := range list.QueueUrls {
		if strings.HasSuffix(url, "-dlq.fifo") {
			continue
		}
		out, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
		})
		if err != nil {
			return "", err
		}
		visible := out.Attributes["ApproximateNumberOfMessages"]
		held := out.Attributes["ApproximateNumberOfMessagesNotVisible"]
		if visible != "0" || held != "0" {
			return fmt.Sprintf("%s has %s messages, and %s are held", url, visible, held), nil
		}
	}
	return "", nil
}
