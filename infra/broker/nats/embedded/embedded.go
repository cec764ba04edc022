// Package embedded contains the server of brokers that have a directory (nats.Config). A program imports it for that
// effect, and a program that does not import it is 10 MB smaller.
package embedded

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebb-dev/ebb/infra/broker/nats"
)

func init() { nats.Embed(start) }

// start starts a server with JetStream and its data in a directory.
func start(dir string, syncAlways bool) (nats.Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "ebb", DontListen: true, JetStream: true, StoreDir: dir,
		NoSigs: true, NoLog: true, MaxPayload: nats.MaxPayload, MaxPending: 64 << 20,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 50,
		SyncAlways: syncAlways, SyncInterval: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10*time.Second) || !s.JetStreamEnabled() {
		s.Shutdown()
		return nil, fmt.Errorf("the embedded NATS server did not start in %s", dir)
	}
	return s, nil
}
