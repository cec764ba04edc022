package function

import (
	"context"
	"net/netip"

	"github.com/ebb-dev/ebb/infra/httprequest"
)

// ClientAddr returns the address of the client whose request is being handled; the zero Addr where none is known. It is
// the connection's other end or, behind the platform's proxies, the client that X-Forwarded-For tells of: see
// httprequest.ClientAddr.
//
// A client with a private address, inside of the platform's network, can name any address, and one outside cannot. The
// address is fit for sharing work out fairly and for slowing down a guesser, and does not prove an identity.
func ClientAddr(ctx context.Context) netip.Addr {
	rq := requestOf(ctx)
	if rq == nil {
		return netip.Addr{}
	}
	return httprequest.ClientAddr(rq.http)
}
