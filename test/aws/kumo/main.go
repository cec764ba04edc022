// Command kumo serves an emulator of AWS on $KUMO_HOST:$KUMO_PORT, for tests: `make bin/kumo`. It is a module of its
// own, because the emulator is no part of the product. The emulator reads the two variables itself, for the URLs that
// it answers with, but chooses another port to listen on: what comes to this one is handed on.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"strings"

	"github.com/sivchari/kumo"
)

func main() {
	emulator := strings.TrimPrefix(kumo.NewServer().URL, "http://")
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("KUMO_HOST"), os.Getenv("KUMO_PORT")))
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go forward(client, emulator)
	}
}

// forward carries a connection to the emulator and back.
func forward(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		log.Print(err)
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}
