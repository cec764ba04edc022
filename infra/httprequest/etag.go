package httprequest

import "strings"

// NoneMatch reports whether an If-None-Match field has the entity tag, so that the response to a GET is 304. Tags are
// compared weakly (RFC 9110 section 13.1.2). An empty field has no tag, and * matches every tag.
func NoneMatch(field, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	return names(field, func(listed string) bool { return strings.TrimPrefix(listed, "W/") == tag })
}

// Match reports whether an If-Match field has the entity tag, so that the change may be made. Tags are compared
// strongly (RFC 9110 section 13.1.1): a weak tag never matches.
func Match(field, tag string) bool {
	return names(field, func(listed string) bool { return listed == tag && !strings.HasPrefix(tag, "W/") })
}

// names reports whether the field is * or has a tag for which is returns true. Tags after a syntax error are ignored.
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
