package cli

import (
	"net"
	"strings"
)

// The names that requests may be for, besides those of loopback.
const (
	hostsName = "EBB_HOSTS"
	hostsHelp = "further `names`, with commas between, that requests may be for; * for any; on loopback its own " +
		"names are always taken (" + hostsName + ")"
)

// onLoopback reports whether only this machine reaches the address.
func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// list returns what stands between commas.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
