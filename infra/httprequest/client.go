package httprequest

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops is how many entries of X-Forwarded-For are looked at, from the last on.
const maxHops = 16

// ClientAddr returns the address of the client that sent the request; the zero Addr where none is known.
//
// It is the address of the connection's other end, unless that is a private or loopback one: a proxy of the platform.
// Then the entries of X-Forwarded-For count, from the last, which the nearest proxy has written, and the first public
// address among them is the client's. What a client outside writes into the header comes before that and is not looked
// at. Where all addresses are private, the farthest is taken.
func ClientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := len(hops) - 1; n >= max(0, len(hops)-maxHops) && !PublicAddr(client); n-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[n]))
		if err != nil {
			break
		}
		client = hop.Unmap().WithZone("")
	}
	return client
}

// carrierGrade is the shared address space of RFC 6598, which platforms use inside as well.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// PublicAddr reports whether the address is one of the Internet, rather than of a private network, a link or this
// machine.
func PublicAddr(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierGrade.Contains(a)
}
