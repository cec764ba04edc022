package transcode

import (
	"compress/gzip"
	"fmt"
	"io"

	"connectrpc.com/connect"
)

// maxMessage is the largest message of a call and of its response, in bytes and uncompressed: what clients of gRPC take.
// The operation has its own limit for the body of its request, which is not more.
const maxMessage = 4 << 20

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
		return 0, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the message is over %d bytes", maxMessage))
	}
	return n, err
}

func newUnzip() connect.Decompressor { return &unzip{} }

func newZip() connect.Compressor { return gzip.NewWriter(io.Discard) }
