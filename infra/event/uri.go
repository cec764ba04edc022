package event

import (
	"errors"
	"net/url"
	"strings"
)

// ParseURI parses a URI or a URI reference so that the String of the result is the text, byte by byte: an identifier is
// compared as it was written. Where package url would change the text, such as the scheme of HTTP://Example.com or the
// empty fragment of /empty#, all of it but the scheme is in Opaque. ParseURI returns an error where url.Parse does.
func ParseURI(text string) (url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return url.URL{}, errors.New("it is not a URI")
	}
	if u.String() == text {
		return *u, nil
	}
	if u.Scheme == "" {
		return url.URL{Opaque: text}, nil
	}
	scheme, rest, _ := strings.Cut(text, ":")
	if rest == "" {
		return *u, nil
	}
	return url.URL{Scheme: scheme, Opaque: rest}, nil
}
