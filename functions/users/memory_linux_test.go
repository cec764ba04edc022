//go:build !race

package users_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// Sixty wrong sign-ins at once fit a pod of 128 MiB, whose runtime has four fifths of it, on a machine of many cores. A
// process of its own does it, so that its peak is that of nothing else.
func TestSignInsFitAPod(t *testing.T) {
	const role = "EBB_TEST_SIGN_INS"
	if os.Getenv(role) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSignInsFitAPod$", "-test.v")
		cmd.Env = append(os.Environ(), role+"=1", "GOMEMLIMIT=102MiB", "GOMAXPROCS=8")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var peak int
		_, after, _ := strings.Cut(string(out), "VmHWM:")
		if _, err := fmt.Sscan(after, &peak); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Logf("at most %d MiB", peak>>10)
		if peak >= 128<<10 {
			t.Errorf("sixty sign-ins took %d MiB at once", peak>>10)
		}
		return
	}
	s := shop{Harness: functiontest.New(t, users.New, functiontest.Once())}
	s.register("ada@example.com")
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if r := s.login("ada@example.com", "wrong horse"); r.Status < 400 {
				t.Errorf("got %d", r.Status)
			}
		})
	}
	wg.Wait()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println("VmHWM:", strings.Fields(line)[0])
}
