//go:build !unix

package httpserver

import "net"

// canPark is false: on this system a connection cannot wait without reading.
const canPark = false

func readable(net.Conn) bool { return false }
