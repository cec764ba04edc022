// Package awstest starts an emulator of AWS for tests.
package awstest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// program is the variable that names the emulator's program.
const program = "EBB_TEST_KUMO"

// Need has the AWS clients of this process talk to an emulator, which it starts once. It skips the test when the
// emulator's program is not there, and says how to build it. The emulator ends with Stop.
func Need(t testing.TB) {
	t.Helper()
	err := start()
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no emulator of AWS: make bin/kumo, or set " + program + " to its program")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends the emulator. TestMain calls it after the tests.
func Stop() { stop() }

var stop = func() {}

var start = sync.OnceValue(func() error {
	path, err := find()
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
	c := exec.Command("sh", "-c", `"$0" >&2 & cat >/dev/null; kill -9 $!`, path)
	c.Env = append(os.Environ(), "KUMO_HOST=127.0.0.1", "KUMO_PORT="+port)
	stdin, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	stop = func() {
		_ = stdin.Close()
		_ = c.Wait()
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://" + address, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "test",
		"AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for range 600 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return fmt.Errorf("the emulator %s does not listen", path)
})

// CreateBucket makes a bucket of the emulator, unless it is there.
func CreateBucket(t testing.TB, name string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPut, os.Getenv("AWS_ENDPOINT_URL")+"/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusConflict {
		t.Fatalf("the bucket %s cannot be made: %s", name, response.Status)
	}
}

// find returns the path of the emulator's program: the one that the variable names, or bin/kumo of the module.
func find() (string, error) {
	if path := os.Getenv(program); path != "" {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", os.ErrNotExist
		}
	}
	path := filepath.Join(dir, "bin", "kumo")
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return path, nil
}
