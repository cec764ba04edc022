// Package rabbitmqtest starts RabbitMQ servers for tests.
package rabbitmqtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrAbsent is the error of Start where RabbitMQ is not installed.
var ErrAbsent = errors.New("no RabbitMQ: install Debian's rabbitmq-server (its service need not run)")

// start is Debian's script that runs the server as the user who calls it.
const start = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// startTime is how long a server may take to start. It takes some 20 s on an idle machine with two cores.
const startTime = 3 * time.Minute

// Server is a server on loopback with its data in a temporary folder.
type Server struct {
	dir                string
	port, dist, mapper int
	names, process     *exec.Cmd // Erlang's port mapper, and the server
}

// Start starts a server. The caller must call Remove.
func Start() (*Server, error) {
	if _, err := os.Stat(start); err != nil {
		return nil, ErrAbsent
	}
	dir, err := os.MkdirTemp("", "ebb-rabbitmq-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s.port, s.dist, s.mapper = ports[0], ports[1], ports[2]
	if err := s.configure(); err != nil {
		s.Remove()
		return nil, err
	}
	s.names = exec.Command("epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(s.mapper))
	if err := s.names.Start(); err != nil {
		s.names = nil
		s.Remove()
		return nil, err
	}
	if err := s.Restart(); err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}

// freePorts returns ports of loopback that are free now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (s *Server) configure() error {
	conf := fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nlog.file = false\nlog.console = true\n"+
		"log.console.level = warning\nvm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n", s.port)
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, "rabbitmq.conf"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(s.dir, "enabled_plugins"), []byte("[].\n"), 0o600),
	)
}

// Restart starts the server again after Stop, with its data, and returns when it serves.
func (s *Server) Restart() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = exec.Command(start)
	s.process.Dir = s.dir
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.process.Env = append(os.Environ(),
		"HOME="+s.dir, "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("ERL_EPMD_PORT=%d", s.mapper),
		"RABBITMQ_NODENAME=ebb@localhost", fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.dist),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(s.dir, "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(s.dir, "enabled_plugins"),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(s.dir, "data"), "RABBITMQ_LOG_BASE="+filepath.Join(s.dir, "log"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	if err := s.process.Start(); err != nil {
		s.process = nil
		return err
	}
	ended := make(chan error, 1)
	process := s.process
	go func() { ended <- process.Wait() }()
	for end := time.Now().Add(startTime); time.Now().Before(end); {
		if conn, err := amqp.Dial(s.URL()); err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			return errors.Join(errors.New("RabbitMQ does not start"), err, s.log())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.Join(errors.New("RabbitMQ has not started in time"), s.log())
}

// log returns the end of the server's log as an error.
func (s *Server) log() error {
	text, err := os.ReadFile(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return err
	}
	return errors.New(string(text[max(0, len(text)-2000):]))
}

// Stop ends the server with SIGTERM, which has it close its files.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(by syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = syscall.Kill(-s.process.Process.Pid, by)
	for syscall.Kill(-s.process.Process.Pid, 0) == nil { // until the group is gone
		time.Sleep(10 * time.Millisecond)
	}
	s.process = nil
}

// Remove ends the server and deletes its data.
func (s *Server) Remove() {
	s.Kill()
	if s.names != nil {
		_ = s.names.Process.Kill()
		_ = s.names.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

// Addr returns the address of the server.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URL returns the URL of the server.
func (s *Server) URL() string { return "amqp://guest:guest@" + s.Addr() + "/" }

// Alarm begins or ends an alarm of the server's memory: it reads nothing more from connections that publish.
func (s *Server) Alarm(on bool) error {
	limit := "1GB"
	if on {
		limit = "1"
	}
	return s.Control("set_vm_memory_high_watermark", "absolute", limit)
}

// Control runs a command of rabbitmqctl.
func (s *Server) Control(args ...string) error {
	args = append([]string{"-n", "ebb@localhost"}, args...)
	control := exec.Command(filepath.Join(filepath.Dir(start), "rabbitmqctl"), args...)
	control.Env = append(os.Environ(), "HOME="+s.dir, fmt.Sprintf("ERL_EPMD_PORT=%d", s.mapper),
		"RABBITMQ_CONF_ENV_FILE=/dev/null")
	if out, err := control.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
