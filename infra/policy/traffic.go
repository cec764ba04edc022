package policy

import (
	"net/netip"
	"strconv"
	"strings"
)

// Split sends a part of an operation's requests to another function, or to an upstream of the environment, that serves
// the same operation: its next version, a canary. The first rule whose conditions a request meets holds.
type Split struct {
	Function string  `json:"function"`
	Percent  float64 `json:"percent,omitempty"` // of callers, each of whom stays on one side; 0: all of them

	Header map[string]string `json:"header,omitempty"` // that requests have with these values; "*": any value
	Cookie map[string]string `json:"cookie,omitempty"` // the same for cookies
	Host   string            `json:"host,omitempty"`   // that requests are sent to, without a port; *.NAME: all below NAME

	// Version is what requests ask for in one of the places that the environment names; "": the current one.
	Version string `json:"version,omitempty"`

	// Sticky is the name of a cookie with which the requests of a browser that met the rule once meet it again, whatever
	// Percent, Header and Cookie say; "": none is set.
	Sticky string `json:"sticky,omitempty"`
}

// Mirror sends a copy of an operation's requests to another function, or to an upstream of the environment, whose
// answers are thrown away. A request waits for no copy, and where too many copies are under way none is sent.
type Mirror struct {
	Function string  `json:"function"`
	Percent  float64 `json:"percent,omitempty"` // of callers; 0: all of them

	Writes  bool  `json:"writes,omitempty"`   // whether an operation that writes may be copied: it is then done twice
	MaxBody int64 `json:"max_body,omitempty"` // bytes of a body above which no copy is sent, at most 1 MiB; 0: 64 KiB
}

// maxMirrored is the most bytes of a body that may be kept for a copy.
const maxMirrored = 1 << 20

func (p Policy) checkTraffic(report Report) {
	for i, s := range p.Split {
		field := "split[" + strconv.Itoa(i) + "]."
		s.check(func(name, problem string) { report(field+name, problem) })
	}
	if m := p.Mirror; m != nil {
		checkTarget(m.Function, m.Percent, func(name, problem string) { report("mirror."+name, problem) })
		if m.MaxBody < 0 || m.MaxBody > maxMirrored {
			report("mirror.max_body", "want 0 to 1048576 bytes")
		}
	}
}

func (s Split) check(report Report) {
	checkTarget(s.Function, s.Percent, report)
	for name := range s.Header {
		if !token(name) {
			report("header", "want names of header fields")
		} else if strings.EqualFold(name, "Cookie") {
			report("header", "want cookies in the field cookie")
		}
	}
	for name := range s.Cookie {
		if !token(name) {
			report("cookie", "want names of cookies")
		}
	}
	if s.Host != "" && !HostPattern(s.Host) {
		report("host", "want the name of a host without a port, or *.NAME")
	}
	if s.Sticky != "" && !token(s.Sticky) {
		report("sticky", "want the name of a cookie")
	}
}

func checkTarget(function string, percent float64, report Report) {
	if function == "" {
		report("function", "want the name of a function")
	}
	if !(percent >= 0 && percent <= 100) {
		report("percent", "want 0 to 100")
	}
}

// token reports whether text is a token (RFC 9110, 5.6.2), as the names of header fields and cookies are.
func token(text string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return text != ""
}

// HostPattern reports whether text is the name or the address of a host, without a port, or *.NAME.
func HostPattern(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	name := strings.TrimPrefix(text, "*.")
	if name == "" || len(name) > 253 || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// HostMatches reports whether a host, in any case and without a port, is the one that a pattern names.
func HostMatches(pattern, host string) bool {
	if below, any := strings.CutPrefix(pattern, "*"); any {
		return len(host) > len(below) && strings.EqualFold(host[len(host)-len(below):], below)
	}
	return strings.EqualFold(pattern, host)
}
