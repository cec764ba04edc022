package transcode

import (
	"net/http"

	"connectrpc.com/connect"
)

// CodeOf returns the code of a call whose operation has answered with the HTTP status. Each kind of package fault has
// the code of its status.
func CodeOf(status int) connect.Code {
	switch status {
	case http.StatusUnauthorized:
		return connect.CodeUnauthenticated
	case http.StatusForbidden:
		return connect.CodePermissionDenied
	case http.StatusNotFound, http.StatusGone:
		return connect.CodeNotFound
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return connect.CodeUnimplemented
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return connect.CodeDeadlineExceeded
	case http.StatusConflict:
		return connect.CodeAborted
	case http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return connect.CodeFailedPrecondition
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return connect.CodeResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return connect.CodeUnavailable
	}
	switch {
	case status >= 400 && status < 500:
		return connect.CodeInvalidArgument
	case status >= 500:
		return connect.CodeInternal
	}
	return connect.CodeUnknown
}
