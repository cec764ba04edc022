package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/store"
)

// attempts is how often a call is tried that may succeed the next time.
const attempts = 8

// pause waits before attempt n+1, longer each time, and reports whether ctx still runs.
func pause(ctx context.Context, n int) bool {
	longest := 5 * time.Millisecond << n
	t := time.NewTimer(longest/2 + rand.N(longest/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// changed returns the error of a precondition that does not hold.
func changed(k store.Key) error {
	return fault.New(fault.Conflict, "%s %q has changed in the meantime", k.Collection, k.ID)
}

// reasons returns why a transaction was cancelled, one code for each action; nil: it was not.
func reasons(err error) (codes []string) {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return nil
	}
	for _, r := range cancelled.CancellationReasons {
		code := ""
		if r.Code != nil && *r.Code != "None" {
			code = *r.Code
		}
		codes = append(codes, code)
	}
	return codes
}

// The codes of reasons that are handled.
const (
	conditionFailed     = "ConditionalCheckFailed"
	transactionConflict = "TransactionConflict"
)

// contended reports whether another transaction was at the same items, so that the call may succeed the next time.
func contended(err error) bool {
	var running *types.TransactionInProgressException
	var single *types.TransactionConflictException
	if errors.As(err, &running) || errors.As(err, &single) {
		return true
	}
	found := false
	for _, code := range reasons(err) {
		if code != "" && code != transactionConflict {
			return false
		}
		found = found || code == transactionConflict
	}
	return found
}

// tooMuch reports whether the items of a transaction are too large together.
func tooMuch(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && answer.ErrorCode() == "ValidationException" &&
		strings.Contains(answer.ErrorMessage(), "size of items")
}

const usedUp = "the capacity of the DynamoDB table is used up; wait, or raise it"

// answers maps DynamoDB's codes to kinds of faults and to messages that tell an operator what to do.
var answers = map[string]struct {
	kind fault.Kind
	text string
}{
	"ResourceNotFoundException": {fault.Unavailable, "there is no such DynamoDB table; create it with the keys p and s"},
	"AccessDeniedException": {
		fault.Unavailable, "the function may not use its table; give its role the actions that docs/deploy-aws.md lists",
	},
	"UnrecognizedClientException":            {fault.Unavailable, "AWS does not accept the function's credentials"},
	"ExpiredTokenException":                  {fault.Unavailable, "the function's credentials have expired"},
	"MissingAuthenticationToken":             {fault.Unavailable, "the function has no credentials for AWS"},
	"ProvisionedThroughputExceededException": {fault.Exhausted, usedUp},
	"ThrottlingException":                    {fault.Exhausted, "DynamoDB takes fewer requests than come; wait"},
	"ThrottlingError":                        {fault.Exhausted, "DynamoDB takes fewer requests than come; wait"},
	"ProvisionedThroughputExceeded":          {fault.Exhausted, usedUp},
	"RequestLimitExceeded":                   {fault.Exhausted, "a quota of DynamoDB is used up; wait, or have it raised"},
	"InternalServerError":                    {fault.Unavailable, "DynamoDB has failed; try again"},
	"ServiceUnavailable":                     {fault.Unavailable, "DynamoDB is not available; try again"},
	transactionConflict:                      {fault.Conflict, "too many write the same documents at the same time"},
	"TransactionInProgressException":         {fault.Unavailable, "the same commit is still running; try again"},
}

// translate returns the fault of an error of DynamoDB. doing names the operation. The error of an ended context stays.
func (s *Store) translate(ctx context.Context, err error, doing string) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(err, fault.Timeout, "DynamoDB has not answered within %s; try again", callTimeout)
	}
	where := fmt.Errorf("%s in the table %s: %w", doing, s.config.Table, err)
	for _, code := range reasons(err) {
		if a, ok := answers[code]; ok {
			return fault.Wrap(where, a.kind, "%s", a.text)
		}
	}
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		if fault.Is(awsconfig.Fault(ctx, err, "DynamoDB"), fault.Unauthenticated) {
			return fault.Wrap(where, fault.Unavailable, "%s", answers["MissingAuthenticationToken"].text)
		}
		return fault.Wrap(where, fault.Unavailable, "DynamoDB does not answer; see that it can be reached, and try again")
	}
	if a, ok := answers[answer.ErrorCode()]; ok {
		return fault.Wrap(where, a.kind, "%s", a.text)
	}
	if strings.Contains(answer.ErrorMessage(), "size has exceeded") {
		return fault.Wrap(where, fault.TooLarge, "it is too large for DynamoDB")
	}
	return fault.Wrap(where, fault.Internal, "dynamodb: %s", doing)
}
