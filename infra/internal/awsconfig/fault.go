package awsconfig

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Code returns the code of an error of AWS, such as AccessDenied; "": the error is of the way to it.
func Code(err error) string {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return ""
	}
	code := answer.ErrorCode()
	return code[strings.LastIndexByte(code, '.')+1:] // SQS has codes such as AWS.SimpleQueueService.NonExistentQueue
}

// Fault returns the fault of an error of a service of AWS: Unauthenticated for credentials that are missing, wrong or
// expired, Denied where they do not allow something, Exhausted when requests are throttled, and Unavailable otherwise.
// The message is one sentence without any credentials. An error that is a fault, or of a context that has ended, stays.
func Fault(ctx context.Context, err error, service string) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	switch code := Code(err); code {
	case "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "IncompleteSignature",
		"MissingAuthenticationToken", "InvalidSecurity", "InvalidAccessKeyId", "AuthFailure":
		return fault.Wrap(err, fault.Unauthenticated, "%s does not accept the credentials", service)
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired":
		return fault.Wrap(err, fault.Unauthenticated, "the credentials for %s have expired", service)
	case "AccessDenied", "AccessDeniedException", "AuthorizationError", "KmsAccessDenied", "KMSAccessDenied":
		return fault.Wrap(err, fault.Denied, "the credentials do not allow what is needed of %s", service)
	case "Throttling", "ThrottlingException", "Throttled", "RequestThrottled", "OverLimit":
		return fault.Wrap(err, fault.Exhausted, "%s takes fewer requests than come", service)
	case "":
		if text := err.Error(); strings.Contains(text, "credentials") || strings.Contains(text, "get identity") {
			return fault.Wrap(err, fault.Unauthenticated, "there are no credentials for %s: set AWS_ACCESS_KEY_ID and "+
				"AWS_SECRET_ACCESS_KEY, a profile or a role", service)
		}
		return fault.Wrap(err, fault.Unavailable, "%s cannot be reached", service)
	default:
		return fault.Wrap(err, fault.Unavailable, "%s refuses a request: %s", service, code)
	}
}
