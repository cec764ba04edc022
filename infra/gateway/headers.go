package gateway

// Header values that are the same in every answer. Sharing a slice saves an allocation: headers are not changed in
// place, and appending to one of these copies it.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noStore    = []string{"no-store"}
	noFrame    = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
)

// secureHeaders sets the header fields that keep a browser from running or showing what an answer holds. A handler may
// set others in their place.
func secureHeaders(next Handler) Handler {
	return func(x *Exchange) {
		h := x.Writer.Header()
		h["X-Content-Type-Options"] = nosniff
		h["Referrer-Policy"] = noReferrer
		h["X-Frame-Options"] = noFrame
		h["Content-Security-Policy"] = noContent
		next(x)
	}
}
