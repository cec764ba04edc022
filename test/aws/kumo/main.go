// Command kumo serves an emulator of AWS on $KUMO_HOST:$KUMO_PORT, for tests: `make bin/kumo`. It is a module of its
// own, because the emulator is no part of the product. The emulator reads the two variables itself, for the URLs that
// it answers with, but chooses another port to listen on: what comes to this one is handed on.
//
// What the emulator lacks of FIFO topics and queues is added on the way: PublishBatch becomes one Publish for each
// entry, and messages that one request receives have their SequenceNumber and are in its order.
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
	server := &http.Server{
		Addr:              net.JoinHostPort(os.Getenv("KUMO_HOST"), os.Getenv("KUMO_PORT")),
		Handler:           handler(emulator),
		ReadHeaderTimeout: time.Minute,
	}
	log.Fatal(server.ListenAndServe())
}

func handler(emulator *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = emulator.Scheme, emulator.Host
			r.Out.Host = r.In.Host
		},
		Transport: transport, FlushInterval: -1, ModifyResponse: ordered,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				log.Print(err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if entries, ok := publishBatch(r); ok {
			entries.publish(w, r, emulator, transport)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}
