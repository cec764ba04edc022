// Command kumo serves an emulator of AWS on $KUMO_HOST:$KUMO_PORT, for tests: `make bin/kumo`. It is a module of its
// own, because the emulator is no part of the product. The emulator reads the two variables itself, for the URLs that
// it answers with, but chooses another port to listen on: what comes to this one is handed on.
//
// What the emulator lacks of FIFO topics and queues is added on the way: PublishBatch becomes one Publish for each
// entry, and messages that one request receives have their SequenceNumber and are in its order. A connection whose
// first request is for DynamoDB is carried byte by byte: through the proxy, some answers of the emulator break off.
package main

import (
	"bufio"
	"bytes"
	"io"
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
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("KUMO_HOST"), os.Getenv("KUMO_PORT")))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: handler(emulator), ReadHeaderTimeout: time.Minute}
	queues := &accepted{Listener: l, conns: make(chan net.Conn)}
	go func() { log.Fatal(server.Serve(queues)) }()
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			c := &peeked{Conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
			if c.isDynamoDB() {
				forward(c, emulator.Host)
				return
			}
			queues.conns <- c
		}()
	}
}

// accepted is a listener whose connections another loop has accepted.
type accepted struct {
	net.Listener
	conns chan net.Conn
}

func (a *accepted) Accept() (net.Conn, error) { return <-a.conns, nil }

// peeked is a connection whose first bytes may have been looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (c *peeked) Read(b []byte) (int, error) { return c.r.Read(b) }

// isDynamoDB waits for the header of the first request and reports whether it is for DynamoDB.
func (c *peeked) isDynamoDB() bool {
	for n := 1; ; {
		if _, err := c.r.Peek(n); err != nil {
			return false
		}
		head, _ := c.r.Peek(c.r.Buffered())
		header, _, ended := bytes.Cut(head, []byte("\r\n\r\n"))
		if ended || len(head) == c.r.Size() {
			return bytes.Contains(bytes.ToLower(header), []byte("\r\nx-amz-target: dynamodb"))
		}
		n = len(head) + 1
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
