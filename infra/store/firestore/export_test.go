package firestore

import (
	"time"

	"google.golang.org/grpc"
)

// With makes a connection that has these options too.
func (c Config) With(options ...grpc.DialOption) Config {
	c.options = options
	return c
}

// SetLag makes lag another time until the function is called that it returns.
func SetLag(d time.Duration) (restore func()) {
	before := lag
	lag = d
	return func() { lag = before }
}

// MaxDocument is the largest document, in bytes as Firestore counts them.
const MaxDocument = maxDocument
