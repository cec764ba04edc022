package gateway

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// prefix is a network, or one address.
type prefix struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *prefix) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil {
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	parsed, err := netip.ParsePrefix(string(text))
	if err != nil {
		return errors.New("want an address or a network such as 10.0.0.0/8")
	}
	p.Prefix = parsed.Masked()
	return nil
}

// forwarded finds the address of the client. Where the environment names the proxies in front of the gateway, the
// header fields that tell about a client count only from them, and are taken out of other requests, so that no function
// believes them.
func forwarded(next Handler) Handler {
	return func(x *Exchange) {
		if len(x.table.proxies) > 0 {
			x.address = x.table.clientOf(x)
		}
		next(x)
	}
}

// told are the header fields in which proxies tell about the client.
var told = []string{
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip", "Forwarded",
}

// clientOf returns the address of the client behind the named proxies.
func (t *table) clientOf(x *Exchange) netip.Addr {
	peer, err := netip.ParseAddrPort(x.Request.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client, h := plainAddr(peer.Addr()), x.Request.Header
	if !t.isProxy(client) {
		for _, name := range told {
			delete(h, name)
		}
		return client
	}
	hops := strings.Split(strings.Join(h.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		if client = plainAddr(a); !t.isProxy(client) {
			break
		}
	}
	return client
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (t *table) isProxy(a netip.Addr) bool {
	return slices.ContainsFunc(t.proxies, func(p prefix) bool { return p.Contains(a) })
}
