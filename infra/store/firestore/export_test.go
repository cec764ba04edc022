package firestore

import (
	"time"

	"google.golang.org/grpc"
)

// With adds options of the connection.
func (c Config) With(options ...grpc.DialOption) Config {
	c.options = options
	return c
}

// SetLag changes lag until restore is called.
func SetLag(d time.Duration) (restore func()) {
	before := lag
	lag = d
	return func() { lag = before }
}

// MaxDocument is the size of the largest document, by Firestore's rules.
const MaxDocument = maxDocument
