// Package pgtest starts a real PostgreSQL for tests: it uses the server at EBB_TEST_POSTGRES, the URL of a superuser,
// or a server of its own from Debian's /usr/lib/postgresql, started once per test binary in a temporary directory and
// removed with it. When neither exists, it skips the test and tells what to install.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable is the environment variable with the URL of an existing server.
const Variable = "EBB_TEST_POSTGRES"

const absent = "no PostgreSQL: install Debian's postgresql (its service need not run), or set " + Variable +
	" to the URL of a superuser"

// Superuser returns the URL of a superuser of the server that all tests share.
func Superuser(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(Variable); url != "" {
		return url
	}
	s, err := shared()
	if errors.Is(err, errAbsent) {
		t.Skip(absent)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.URL
}

var shared = sync.OnceValues(func() (*Server, error) { return start() })

var roles atomic.Int64

// Role creates a role with an empty schema of the same name, as for a function, and returns its URL. Both are removed
// after the test.
func Role(t testing.TB) string {
	t.Helper()
	return RoleOf(t, Superuser(t))
}

// RoleOf does the same on the server of another superuser.
func RoleOf(t testing.TB, superuser string) string {
	t.Helper()
	name, password := fmt.Sprintf("ebb_test_%d_%d", os.Getpid(), roles.Add(1)), rand.Text()
	Exec(t, superuser,
		"CREATE ROLE "+name+" LOGIN PASSWORD '"+password+"'",
		"CREATE SCHEMA "+name+" AUTHORIZATION "+name)
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), superuser)
		if err != nil {
			return // the test has stopped its server
		}
		defer func() { _ = c.Close(context.Background()) }()
		sql := "DROP SCHEMA IF EXISTS " + name + " CASCADE; DROP OWNED BY " + name + "; DROP ROLE " + name
		if _, err := c.Exec(context.Background(), sql); err != nil {
			t.Error(err)
		}
	})
	return With(t, superuser, func(u *url.URL) { u.User = url.UserPassword(name, password) })
}

// With returns a URL after a change.
func With(t testing.TB, text string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// Param returns a URL with a parameter.
func Param(t testing.TB, text, name, value string) string {
	t.Helper()
	return With(t, text, func(u *url.URL) {
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
	})
}

// User returns the role of a URL, which is also the name of its schema.
func User(t testing.TB, text string) (name string) {
	t.Helper()
	With(t, text, func(u *url.URL) { name = u.User.Username() })
	return name
}

// Connect opens a connection, which is closed after the test.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Exec runs statements.
func Exec(t testing.TB, url string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	for _, sql := range statements {
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// Server is a server for one test, which may stop it, crash it and start it again.
type Server struct {
	URL string // of the superuser

	bin, dir string
	port     int
	as       *syscall.Credential
	options  []string
	stdin    io.Closer
	process  *exec.Cmd
}

// New starts a server for one test, with options such as "max_connections=20".
func New(t testing.TB, options ...string) *Server {
	t.Helper()
	s, err := start(options...)
	if errors.Is(err, errAbsent) {
		t.Skip(strings.Split(absent, ", or")[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop(t, syscall.SIGINT)
		_ = os.RemoveAll(s.dir)
	})
	return s
}

var errAbsent = errors.New("no server is installed")

func start(options ...string) (*Server, error) {
	s := &Server{options: options}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, errAbsent
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	s.bin = filepath.Dir(newest)
	var err error
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	if err := s.become(); err != nil {
		return nil, err
	}
	password := rand.Text()
	file := filepath.Join(s.dir, "password")
	if err := os.WriteFile(file, []byte(password), 0o644); err != nil { // in a directory for one user
		return nil, err
	}
	args := []string{
		"-D", filepath.Join(s.dir, "data"), "-U", "postgres", "--pwfile", file, "-A", "scram-sha-256", "-E", "UTF8",
		"--locale", "C.UTF-8", "--no-sync",
	}
	if version(newest) >= 15 { // a collation that is not by bytes, so that tests show code that relies on the default
		args = append(args, "--locale-provider", "icu", "--icu-locale", "en-US")
	}
	initdb := exec.Command(newest, args...)
	initdb.SysProcAttr, initdb.Dir = s.attributes(), s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.URL = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", password, s.port)
	return s, s.run()
}

// version is the major one in a path of Debian's.
func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// become gives the directory to somebody who is not root, for whom the server refuses to run.
func (s *Server) become() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *Server) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// keeper runs the server for as long as somebody holds the other end of its standard input, which ends with a process
// however that ends, and then stops the server and removes the directory.
const keeper = `"$@" >"$DIR/log" 2>&1 </dev/null & server=$!
echo $server
read -r wish || { kill -QUIT $server; wait $server; rm -rf "$DIR"; exit; }
kill -$wish $server; wait $server`

// run starts the server and waits until it answers.
func (s *Server) run() error {
	args := []string{"-c", keeper, "sh", filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data")}
	for _, o := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(s.port), "unix_socket_directories=",
	}, s.options...) {
		args = append(args, "-c", o)
	}
	s.process = exec.Command("/bin/sh", args...)
	s.process.SysProcAttr, s.process.Dir, s.process.Env = s.attributes(), s.dir, []string{
		"DIR=" + s.dir, "PATH=/usr/bin:/bin",
	}
	var err error
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := pgx.Connect(context.Background(), s.URL)
		if err == nil {
			return c.Close(context.Background())
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server does not start: %w\n%s", err, log)
		}
	}
}

// Stop stops the server: with SIGINT in order, with SIGQUIT as in a crash, after which its log has to be replayed.
// Stopping twice is allowed.
func (s *Server) Stop(t testing.TB, how syscall.Signal) {
	t.Helper()
	if s.process == nil {
		return
	}
	name := map[syscall.Signal]string{syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT"}[how]
	if _, err := io.WriteString(s.stdin.(io.Writer), name+"\n"); err != nil {
		t.Error(err)
	}
	_ = s.process.Wait() // the shell's status is the server's, which need not be 0
	s.process = nil
}

// Start starts a server again that was stopped, with other options if there are any.
func (s *Server) Start(t testing.TB, options ...string) {
	t.Helper()
	s.options = append(s.options, options...)
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}
