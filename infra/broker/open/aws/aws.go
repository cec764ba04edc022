// Package aws adds the broker over SNS and SQS to those that package open chooses from:
//
//	import _ "github.com/ebb-dev/ebb/infra/broker/open/aws"
//
// It is a package of its own because AWS's clients are 5 MB, which the image of a function on Knative does without.
package aws

import (
	"github.com/ebb-dev/ebb/infra/broker/open"
	"github.com/ebb-dev/ebb/infra/broker/sqs"
)

func init() { open.SQS(sqs.Opener, sqs.Capabilities) }
