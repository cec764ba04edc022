// Package redistest starts Redis servers for tests.
package redistest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const absent = "no Redis: install Debian's redis-server (its service need not run)"

// Server is a server of a test's own.
type Server struct {
	dir      string
	settings []string
	process  *exec.Cmd
}

// Durable are the settings of a server that has its data again after Restart. With everysec it could lack what it has
// acknowledged while an fsync was under way.
var Durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// Start starts a server, which is stopped after the test. Without further settings, such as Durable, it keeps nothing
// on disk. The test is skipped where Redis is not installed.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb-redis-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir, settings: settings}
	t.Cleanup(func() {
		s.Stop()
		_ = os.RemoveAll(dir)
	})
	s.Restart(t)
	return s
}

// Restart starts the server again after Stop, with the data that its settings keep.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip(absent)
	}
	arguments := []string{"--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--save", "", "--appendonly", "no"}
	s.process = exec.Command(binary, append(arguments, s.settings...)...)
	s.process.Dir = s.dir
	// The server says that it is ready by what it prints, and the pipe ends with it.
	out, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	var printed []byte
	buffer := make([]byte, 4096)
	for {
		if c, err := net.Dial("unix", s.socket()); err == nil {
			_ = c.Close()
			go func() { // the server must not wait for its output to be read
				for {
					if _, err := out.Read(buffer); err != nil {
						return
					}
				}
			}()
			return
		}
		n, err := out.Read(buffer)
		printed = append(printed, buffer[:n]...)
		if err != nil {
			t.Fatal(errors.Join(err, errors.New(string(printed))))
		}
	}
}

// Stop kills the server and waits until it is gone.
func (s *Server) Stop() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *Server) socket() string { return filepath.Join(s.dir, "redis.sock") }

// URL returns the URL of the server.
func (s *Server) URL() string { return "unix://" + s.socket() }
