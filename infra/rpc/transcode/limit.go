package transcode

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/jsonlimit"
)

const (
	// maxMessage is the largest message of a call and of its response, in bytes and uncompressed: what clients of gRPC
	// take. The operation has its own limit for the body of its request.
	maxMessage = 4 << 20

	// maxValues is the most fields and items that a message of a call has, with those of the messages in it: two bytes
	// make an empty item, which takes a hundred when it is decoded. Operations limit the values of a body in the same way.
	maxValues = maxMessage / 192

	maxDepth = jsonlimit.MaxDepth
)

// unzip decompresses a message, up to maxMessage.
type unzip struct {
	gzip.Reader
	left int
}

// Reset implements connect.Decompressor.
func (u *unzip) Reset(r io.Reader) error {
	u.left = maxMessage
	return u.Reader.Reset(r)
}

// Read implements io.Reader.
func (u *unzip) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if u.left -= n; u.left < 0 {
		return 0, exhausted("the message is over %d bytes", maxMessage)
	}
	return n, err
}

func newUnzip() connect.Decompressor { return &unzip{} }

func newZip() connect.Compressor { return gzip.NewWriter(io.Discard) }

func exhausted(format string, args ...any) error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(format, args...))
}

func invalid(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }

// inputs are the types of the messages of calls, whose size is checked before they are decoded.
type inputs map[protoreflect.FullName]bool

// binary is Protobuf's binary form with the limits.
type binary struct {
	*vanguard.ProtoCodec
	inputs inputs
}

// Unmarshal implements vanguard.Codec.
func (c binary) Unmarshal(data []byte, m proto.Message) error {
	if d := m.ProtoReflect().Descriptor(); c.inputs[d.FullName()] {
		left := maxValues
		if err := count(data, d, &left, maxDepth); err != nil {
			return err
		}
	}
	if err := c.ProtoCodec.Unmarshal(data, m); err != nil {
		return invalid(errors.New("the message cannot be decoded"))
	}
	return nil
}

// Unmarshal implements vanguard.Codec.
func (c plainJSON) Unmarshal(data []byte, m proto.Message) error {
	if !c.inputs[m.ProtoReflect().Descriptor().FullName()] {
		return c.JSONCodec.Unmarshal(data, m)
	}
	if err := jsonlimit.Check(data, maxValues, nil); err != nil {
		return invalid(errors.New(fault.Public(err)))
	}
	if err := c.JSONCodec.Unmarshal(data, m); err != nil {
		return invalid(errors.New("the message cannot be decoded"))
	}
	return nil
}

// count takes the values of a message from those that are left. It allocates nothing.
func count(data []byte, m protoreflect.MessageDescriptor, left *int, depth int) error {
	if depth == 0 {
		return invalid(fmt.Errorf("the message is nested deeper than %d levels", maxDepth))
	}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil // the decoder has an error for it
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return nil
		}
		*left--
		if f := m.Fields().ByNumber(number); f != nil && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(data)
			switch {
			case f.Message() != nil:
				if err := count(inner, f.Message(), left, depth-1); err != nil {
					return err
				}
			case f.IsList() && f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.BytesKind:
				*left -= len(inner) // packed numbers, of one byte or more
			}
		}
		if *left < 0 {
			return exhausted("the message has more than %d values", maxValues)
		}
		data = data[n:]
	}
	return nil
}
