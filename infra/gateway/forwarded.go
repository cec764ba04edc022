package gateway

import (
	"errors"
	"net/http"
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

// clientFields are the header fields in which the named proxies may tell the address of the client. Only the one that
// the environment names counts and stays: a proxy that writes one of them may carry what a client has put into the
// other.
var clientFields = []string{"X-Forwarded-For", "Forwarded"}

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
	hops := forwardedFor
	if t.clientField == "Forwarded" {
		hops = forwardedHops
	}
	for _, hop := range slices.Backward(hops(h)) {
		if !hop.IsValid() {
			break
		}
		if client = plainAddr(hop); !t.isProxy(client) {
			break
		}
	}
	if t.clientField == "Forwarded" {
		for _, name := range told {
			delete(h, name)
		}
		h["X-Forwarded-For"] = []string{client.String()} // the field that functions know
	} else {
		delete(h, "Forwarded")
	}
	return client
}

// forwardedFor returns the addresses of X-Forwarded-For; the zero Addr for what is none.
func forwardedFor(h http.Header) []netip.Addr {
	var all []netip.Addr
	for text := range strings.SplitSeq(strings.Join(h["X-Forwarded-For"], ","), ",") {
		a, _ := netip.ParseAddr(strings.TrimSpace(text))
		all = append(all, a)
	}
	return all
}

// forwardedHops returns the addresses in the for parameters of Forwarded (RFC 7239); the zero Addr for an element that
// has none, or an obfuscated one, or is not valid.
func forwardedHops(h http.Header) []netip.Addr {
	var all []netip.Addr
	for _, element := range forwardedElements(strings.Join(h["Forwarded"], ",")) {
		all = append(all, hopOf(element))
	}
	return all
}

// forwardedElements splits a list at the commas outside of quoted strings. It reads from the end, where the proxies
// write: what a client has put before that, such as a quoted string that does not end, changes nothing about their
// elements.
func forwardedElements(list string) (all []string) {
	end, quoted := len(list), false
	for i, c := range slices.Backward([]byte(list)) {
		switch {
		case c == '"':
			before := list[:i]
			if slashes := i - len(strings.TrimRight(before, `\`)); slashes%2 == 0 {
				quoted = !quoted
			}
		case c == ',' && !quoted:
			all = append(all, list[i+1:end])
			end = i
		}
	}
	all = append(all, list[:end])
	slices.Reverse(all)
	return all
}

// hopOf returns the address in the for parameter of an element.
func hopOf(element string) (hop netip.Addr) {
	for rest := element; strings.TrimLeft(rest, " \t") != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "=")
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			if value, rest, ok = unquote(quoted); !ok {
				return netip.Addr{}
			}
		} else {
			end := strings.IndexAny(rest, "; \t\"")
			if end < 0 {
				end = len(rest)
			}
			value, rest = rest[:end], rest[end:]
		}
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			if hop.IsValid() {
				return netip.Addr{} // two in one element
			}
			hop = nodeAddr(value)
		}
		rest = strings.TrimLeft(rest, " \t")
		if rest != "" && rest[0] != ';' {
			return netip.Addr{}
		}
		rest = strings.TrimPrefix(rest, ";")
	}
	return hop
}

// unquote returns the text of a quoted string whose first quote is cut off, and what follows it.
func unquote(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// nodeAddr returns the address of a node: 192.0.2.1, 192.0.2.1:80, [2001:db8::1] or [2001:db8::1]:80.
func nodeAddr(node string) netip.Addr {
	if p, err := netip.ParseAddrPort(node); err == nil {
		return p.Addr()
	}
	if inner, ok := strings.CutPrefix(node, "["); ok {
		node = strings.TrimSuffix(inner, "]")
	}
	a, _ := netip.ParseAddr(node)
	return a
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (t *table) isProxy(a netip.Addr) bool {
	return slices.ContainsFunc(t.proxies, func(p prefix) bool { return p.Contains(a) })
}
