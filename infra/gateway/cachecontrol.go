package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/policy"
)

// directives are those of a Cache-Control field, with their arguments.
type directives map[string]string

// directivesOf parses the Cache-Control fields of a header. Of a directive that comes twice the first counts.
func directivesOf(h http.Header) directives {
	d := directives{}
	rest := strings.Join(h.Values("Cache-Control"), ",")
	for rest != "" {
		var name, value string
		end := strings.IndexAny(rest, ",=")
		switch {
		case end < 0:
			name, rest = rest, ""
		case rest[end] == ',':
			name, rest = rest[:end], rest[end+1:]
		default:
			name, rest = rest[:end], strings.TrimLeft(rest[end+1:], " \t")
			if strings.HasPrefix(rest, `"`) {
				value, rest, _ = strings.Cut(rest[1:], `"`)
				_, rest, _ = strings.Cut(rest, ",")
			} else {
				value, rest, _ = strings.Cut(rest, ",")
			}
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if _, known := d[name]; !known && name != "" {
			d[name] = strings.TrimSpace(value)
		}
	}
	return d
}

func (d directives) has(name string) bool {
	_, ok := d[name]
	return ok
}

// seconds returns the argument of a directive. One that is not valid is 0, as if the answer were stale.
func (d directives) seconds(name string) (time.Duration, bool) {
	text, ok := d[name]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, true
	}
	return time.Duration(n) * time.Second, true
}

// stored is an answer in the cache. It is not changed.
type stored struct {
	status int
	header http.Header
	body   []byte
	vary   []string // header fields of requests that choose another answer; the entry of the URL has them only

	at      time.Time     // when it was as old as its Age field says 0
	fresh   time.Duration // since at
	stale   time.Duration // beyond fresh, while it is fetched anew
	onError time.Duration // beyond fresh, while it cannot be fetched
}

// statuses are those of answers that are stored.
var statuses = []int{http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusMovedPermanently,
	http.StatusPermanentRedirect, http.StatusNotFound, http.StatusGone}

// newStored returns the entry that the cache stores of an answer; nil if it must not store one.
func newStored(status int, h http.Header, body []byte, declared *policy.Cache, now time.Time) *stored {
	cc := directivesOf(h)
	if !slices.Contains(statuses, status) || !sharable(h) || cc.has("no-cache") {
		return nil
	}
	s := &stored{status: status, header: h, body: body, at: now}
	for _, field := range h.Values("Vary") {
		for name := range strings.SplitSeq(field, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && !slices.Contains(s.vary, name) {
				s.vary = append(s.vary, name)
			}
		}
	}
	slices.Sort(s.vary)
	if age, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil && age > 0 {
		s.at = now.Add(-time.Duration(age) * time.Second)
	}
	var said bool
	if s.fresh, said = cc.seconds("s-maxage"); !said {
		s.fresh, said = cc.seconds("max-age")
	}
	if expires := h.Get("Expires"); !said && expires != "" {
		said = true
		if t, err := http.ParseTime(expires); err == nil {
			s.fresh = max(t.Sub(now), 0)
		}
	}
	if !said && status == http.StatusOK {
		s.fresh = time.Duration(declared.TTL)
	}
	s.stale, s.onError = time.Duration(declared.StaleWhileRevalidate), time.Duration(declared.StaleIfError)
	if d, ok := cc.seconds("stale-while-revalidate"); ok {
		s.stale = d
	}
	if d, ok := cc.seconds("stale-if-error"); ok {
		s.onError = d
	}
	if cc.has("must-revalidate") || cc.has("proxy-revalidate") || cc.has("s-maxage") {
		s.stale, s.onError = 0, 0
	}
	if s.fresh == 0 && s.stale == 0 && s.onError == 0 {
		return nil
	}
	return s
}

// sharable reports whether an answer may be given to another caller without credentials.
func sharable(h http.Header) bool {
	cc := directivesOf(h)
	return !cc.has("no-store") && !cc.has("private") && len(h["Set-Cookie"]) == 0 &&
		!strings.Contains(strings.Join(h.Values("Vary"), ","), "*")
}

// age returns how old the answer is.
func (s *stored) age(now time.Time) time.Duration { return max(now.Sub(s.at), 0) }

// isFresh reports whether the answer can be given without asking.
func (s *stored) isFresh(now time.Time) bool { return s.age(now) < s.fresh }
