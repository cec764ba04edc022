package gateway

import (
	"fmt"
	"time"
)

// Header values that are the same in every answer. Sharing a slice saves an allocation: headers are not changed in
// place, and appending to one of these copies it.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noStore    = []string{"no-store"}
	noFrame    = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
)

// secureHeaders sets the header fields that keep a browser from running or showing what an answer holds, and from
// asking in the clear. A handler may set others in their place.
func (g *Gateway) secureHeaders() Middleware {
	var httpsOnly []string
	if g.cfg.HTTPSOnly > 0 {
		httpsOnly = []string{fmt.Sprintf("max-age=%d", g.cfg.HTTPSOnly/time.Second)}
	}
	return func(next Handler) Handler {
		return func(x *Exchange) {
			h := x.Writer.Header()
			h["X-Content-Type-Options"] = nosniff
			h["Referrer-Policy"] = noReferrer
			h["X-Frame-Options"] = noFrame
			h["Content-Security-Policy"] = noContent
			if httpsOnly != nil {
				h["Strict-Transport-Security"] = httpsOnly
			}
			next(x)
		}
	}
}
