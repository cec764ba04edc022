package httpserver

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderLimit is how long a proxy may take to send the header of a connection.
const proxyHeaderLimit = 10 * time.Second

// Networks parses addresses and networks such as 10.0.0.0/8.
func Networks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); single == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("invalid network %q: want an address or a network such as 10.0.0.0/8", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// contains reports whether an address is in one of the networks.
func contains(networks []netip.Prefix, a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// proxied is a connection from a proxy, which begins with the header of the PROXY protocol, version 1 or 2. Its remote
// address is the one in the header: that of the client. A connection without a header, or with one that is not valid,
// cannot be read.
type proxied struct {
	net.Conn
	once   sync.Once
	reader *bufio.Reader
	client net.Addr // nil: the proxy itself, as for its health checks
	err    error
}

// read reads the header once.
func (p *proxied) read() {
	p.once.Do(func() {
		p.reader = bufio.NewReaderSize(p.Conn, 512)
		if p.err = p.SetReadDeadline(time.Now().Add(proxyHeaderLimit)); p.err != nil {
			return
		}
		h, err := proxyproto.Read(p.reader)
		if err != nil {
			p.err = fmt.Errorf("invalid PROXY header from %s: %w", p.Conn.RemoteAddr(), err)
			return
		}
		if from, _, ok := h.TCPAddrs(); ok && h.Command.IsProxy() {
			p.client = from
		}
		p.err = p.SetReadDeadline(time.Time{})
	})
}

// Read implements net.Conn.
func (p *proxied) Read(b []byte) (int, error) {
	if p.read(); p.err != nil {
		return 0, p.err
	}
	if p.reader.Buffered() == 0 {
		return p.Conn.Read(b)
	}
	return p.reader.Read(b)
}

// RemoteAddr implements net.Conn. It waits for the header.
func (p *proxied) RemoteAddr() net.Addr {
	if p.read(); p.client != nil {
		return p.client
	}
	return p.Conn.RemoteAddr()
}

// CloseWrite ends what is sent.
func (p *proxied) CloseWrite() error {
	if half, ok := p.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
