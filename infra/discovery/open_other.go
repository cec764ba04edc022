//go:build !unix

package discovery

import "net"

// open cannot be found out here without waiting: whoever asks finds out.
func open(net.Conn) bool { return true }
