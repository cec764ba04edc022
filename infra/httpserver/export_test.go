package httpserver

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
)

// ParkAfter is how long a connection waits before it is parked.
const ParkAfter = parkAfter

// Parked returns how many connections of a listener are parked.
func Parked(l net.Listener) int {
	p := l.(*listener).parking
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked)
}

// pieces is a connection on which bytes come in pieces.
type pieces struct {
	net.Conn
	left []byte
	next func() int
}

// Read implements io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[:min(p.next(), len(p.left))])
	p.left = p.left[n:]
	return n, nil
}

// WouldPark reads the requests of a stream, in random pieces, as a server does. For each it reports whether the
// connection could be parked after it, and how many bytes the server has read beyond it. A server may also read one
// byte while a handler runs.
func WouldPark(stream []byte, r *rand.Rand) (could []bool, beyond []int, err error) {
	c := &conn{Conn: &pieces{left: stream, next: func() int { return 1 + r.IntN(1+r.IntN(200)) }}}
	ahead := 0 // read while a handler ran
	var byAhead [1]byte
	server := bufio.NewReaderSize(readerFunc(func(b []byte) (int, error) {
		if ahead > 0 {
			b[0], ahead = byAhead[0], 0
			return 1, nil
		}
		return c.Read(b)
	}), 4096)
	for {
		request, err := http.ReadRequest(server)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return could, beyond, err
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return could, beyond, err
		}
		if r.IntN(2) == 0 && server.Buffered() == 0 && ahead == 0 {
			if n, _ := c.Read(byAhead[:]); n == 1 {
				ahead = 1
			}
		}
		could = append(could, c.requests.next() && request.ContentLength == 0)
		beyond = append(beyond, server.Buffered()+ahead)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
