package firestore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
)

const emulatorHost = "FIRESTORE_EMULATOR_HOST"

// TestMain lowers the number of random sequences unless a number is set, because each call goes to a Java program.
func TestMain(m *testing.M) {
	flag.Parse()
	checks := false
	flag.Visit(func(f *flag.Flag) { checks = checks || f.Name == "rapid.checks" })
	if !checks {
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	stopEmulator()
	os.Exit(code)
}

// run is different in each run of the tests, because an emulator that runs longer has the data of earlier runs.
var run = fmt.Sprintf("%x", time.Now().UnixNano())

// databaseOf returns a database that only this test uses.
func databaseOf(t testing.TB) firestore.Config {
	h := fnv.New64a()
	_, _ = io.WriteString(h, t.Name())
	return firestore.Config{
		Project: fmt.Sprintf("ebb-%s-%x", run, h.Sum64()), Database: "test", Function: "test",
	}.With(whole...)
}

// open opens the test's database in the emulator.
func open(t testing.TB, schema store.Schema) *firestore.Store {
	needEmulator(t)
	s, err := firestore.Open(context.Background(), databaseOf(t), schema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// needEmulator sets FIRESTORE_EMULATOR_HOST to an emulator, or skips the test.
func needEmulator(t testing.TB) {
	t.Helper()
	err := startEmulator()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no Firestore emulator: install the Cloud SDK, its component cloud-firestore-emulator and Java, " +
			"or start one elsewhere (gcloud emulators firestore start --host-port=127.0.0.1:8085) and set " +
			"FIRESTORE_EMULATOR_HOST")
	}
	if err != nil {
		t.Fatal(err)
	}
}

var stopEmulator = func() {}

// startEmulator starts the emulator and sets the environment once for all tests, which open databases from several
// goroutines.
var startEmulator = sync.OnceValue(func() error {
	if os.Getenv(emulatorHost) != "" {
		return nil
	}
	script, err := findEmulator()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(address)
	// The shell stops the emulator when this process has ended, for any reason.
	c := exec.Command(
		"sh", "-c", `"$@" >&2 & cat >/dev/null; kill -9 -$$`, "sh", script, "start", "--host=127.0.0.1", "--port="+port,
	)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := &strings.Builder{}
	c.Stderr = said
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	stopEmulator = func() {
		_ = stdin.Close()
		_ = c.Wait() // it is killed
	}
	for range 600 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return errors.Join(conn.Close(), os.Setenv(emulatorHost, address))
		}
		time.Sleep(100 * time.Millisecond)
	}
	stopEmulator()
	return fmt.Errorf("the emulator does not start: %s", said)
})

// findEmulator finds the script that `gcloud emulators firestore start` runs.
func findEmulator() (script string, err error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", err
	}
	gcloud, err := exec.LookPath("gcloud")
	if err != nil {
		return "", err
	}
	if gcloud, err = filepath.EvalSymlinks(gcloud); err != nil {
		return "", err
	}
	script = filepath.Join(filepath.Dir(gcloud), "..", "platform", "cloud-firestore-emulator", "cloud_firestore_emulator")
	return exec.LookPath(script)
}
