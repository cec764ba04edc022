// Command kumo serves an emulator of AWS on $KUMO_HOST:$KUMO_PORT, for tests: `make bin/kumo`. It is a module of its
// own, because the emulator is no part of the product. The emulator reads the two variables itself, for the URLs that
// it answers with.
package main

import (
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/sivchari/kumo"
)

func main() {
	emulator, err := url.Parse(kumo.NewServer().URL)
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(emulator)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 256}
	server := &http.Server{
		Addr: net.JoinHostPort(os.Getenv("KUMO_HOST"), os.Getenv("KUMO_PORT")), Handler: proxy,
		ReadHeaderTimeout: time.Minute,
	}
	log.Fatal(server.ListenAndServe())
}
