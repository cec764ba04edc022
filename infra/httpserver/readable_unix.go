//go:build unix

package httpserver

import (
	"net"
	"syscall"
)

// canPark is true: a connection can wait without reading.
const canPark = true

// readable waits until something has come on a connection, without reading it. It returns false when the other side has
// closed it, or its deadline has passed.
func readable(c net.Conn) bool {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	came := false
	err = control.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		came = n > 0 && err == nil
		return err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && err != syscall.EINTR
	})
	return err == nil && came
}
