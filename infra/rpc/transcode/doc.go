// Package transcode turns calls by gRPC, gRPC-Web and Connect into requests for HTTP operations, as the google.api.http
// options of the methods say.
//
// The rules of a call, beside those of google.api.http:
//
//   - Metadata are header fields: authorization, idempotency-key, if-match, prefer and so on reach the operation. The
//     header fields of its response, such as etag and location, are metadata of the call's response.
//   - When the time of a call (grpc-timeout, Connect-Timeout-Ms) is over, its request is cancelled, as that of a client
//     who has gone, and the call ends with DEADLINE_EXCEEDED.
//   - A success has the response body as its message; one without a body is an empty message.
//   - A failure has the code that CodeOf gives its status, the detail of the problem document as its message, and the
//     whole document as a detail of type google.protobuf.Struct. A Retry-After is a google.rpc.RetryInfo too.
//   - JSON has the names of the .proto file, 64-bit integers are numbers, and members that are not set are left out, in
//     requests of operations and in responses to clients. From clients every form that ProtoJSON has is taken.
package transcode
