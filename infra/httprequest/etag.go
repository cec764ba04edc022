package httprequest

import "strings"

// NoneMatch reports whether an If-None-Match field names the entity tag, so that GET is answered with 304. Tags are
// compared weakly (RFC 9110 section 13.1.2). A field that is empty names none, and * names every tag.
func NoneMatch(field, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	return names(field, func(listed string) bool { return strings.TrimPrefix(listed, "W/") == tag })
}

// Match reports whether an If-Match field names the entity tag, so that a change may go on. Tags are compared strongly
// (RFC 9110 section 13.1.1): a weak one matches nothing.
func Match(field, tag string) bool {
	return names(field, func(listed string) bool { return listed == tag && !strings.HasPrefix(tag, "W/") })
}

// names reports whether the field is * or lists a tag for which is returns true. What follows a syntax error does not
// count.
func names(field string, is func(string) bool) bool {
	const blanks = " \t,"
	rest := strings.Trim(field, blanks)
	if rest == "*" {
		return true
	}
	for rest != "" {
		begin := 0
		if strings.HasPrefix(rest, "W/") {
			begin = 2
		}
		if !strings.HasPrefix(rest[begin:], `"`) {
			return false
		}
		end := strings.IndexByte(rest[begin+1:], '"')
		if end < 0 {
			return false
		}
		end += begin + 2
		if is(rest[:end]) {
			return true
		}
		after := strings.TrimLeft(rest[end:], blanks)
		if after != "" && !strings.Contains(rest[end:len(rest)-len(after)], ",") {
			return false
		}
		rest = after
	}
	return false
}
