package firestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ebb-dev/ebb/infra/fault"
)

// answers maps Firestore's codes to kinds of faults and to messages that tell an operator what to do.
var answers = map[codes.Code]struct {
	kind fault.Kind
	text string
}{
	codes.Aborted: {
		fault.Conflict,
		"too many write the same documents at the same time; Firestore takes about one write of a document per second",
	},
	codes.Canceled:         {fault.Unavailable, "Firestore has ended the call; try again"},
	codes.DeadlineExceeded: {fault.Timeout, "Firestore has not answered in time; try again"},
	codes.FailedPrecondition: {
		fault.Unavailable,
		"the database cannot be used as it is; see that it is in native mode and that its indexes are those of the functions",
	},
	codes.Internal: {fault.Unavailable, "Firestore has failed; try again"},
	codes.NotFound: {fault.Unavailable, "there is no such Firestore database; create it, in native mode"},
	codes.PermissionDenied: {
		fault.Unavailable, "the function may not use its database; give its service account the role roles/datastore.user",
	},
	codes.ResourceExhausted: {fault.Exhausted, "a quota of Firestore is used up; wait, or have it raised"},
	codes.Unauthenticated: {
		fault.Unavailable,
		"Firestore does not accept the function's credentials; see that its service account exists and is bound",
	},
	codes.Unavailable: {fault.Unavailable, "Firestore does not answer; see that it can be reached, and try again"},
}

// translate returns the fault of an error of Firestore. doing names the operation. The error of an ended context stays.
func (s *Store) translate(ctx context.Context, err error, doing string) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		err = status.Error(codes.DeadlineExceeded, "no answer within "+callTimeout.String())
	}
	where := fmt.Errorf("%s in projects/%s/databases/%s: %w", doing, s.config.Project, s.config.Database, err)
	code, text := status.Code(err), status.Convert(err).Message()
	switch {
	case code == codes.FailedPrecondition && strings.Contains(text, "index"):
		return fault.Wrap(
			where, fault.Unavailable,
			"an index of the query is missing or still being built; apply the indexes that the function declares, or wait",
		)
	case code == codes.InvalidArgument && tooLarge(text):
		return fault.Wrap(where, fault.TooLarge, "it is too large for Firestore")
	}
	if a, ok := answers[code]; ok {
		return fault.Wrap(where, a.kind, "%s", a.text)
	}
	return fault.Wrap(where, fault.Internal, "firestore: %s", doing)
}

// tooLarge reports whether the text is about a limit of size, because Firestore has one code for all invalid requests.
func tooLarge(text string) bool {
	for _, sign := range []string{
		"exceeds the maximum", "exceeds the limit", "too big", "too large", "longer than", "maximum entity size",
		"maximum 500 writes",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
