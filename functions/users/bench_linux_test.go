package users_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// BenchmarkSignInsUnderAttack measures good sign-ins, one after the other, while 1,000 wrong ones come in each second:
// none, from one address, or each from another address and for another account. They are of a device that the account
// knows, or of a new one. With GOMEMLIMIT=102MiB the process has what the runtime of a pod of 128 MiB has. The metrics
// are the median and the 99th percentile of the sign-ins in milliseconds, the share that was refused, and the peak of
// the process's memory in MiB.
func BenchmarkSignInsUnderAttack(b *testing.B) {
	for _, attack := range []struct {
		name string
		from func(n int) (address, email string)
	}{
		{"nobody", nil},
		{"one-address", func(int) (string, string) { return elsewhere, "ada@example.com" }},
		{"each-another", func(n int) (string, string) {
			return fmt.Sprintf("9.%d.%d.%d", n>>16&255, n>>8&255, n&255), fmt.Sprint(n, "@example.com")
		}},
	} {
		from := attack.from
		for _, known := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/known=%v", attack.name, known), func(b *testing.B) {
				s := shop{Harness: functiontest.New(b, users.New, functiontest.Once())}
				s.register("ada@example.com")
				device := s.device(here, "ada@example.com", "")
				stop := make(chan struct{})
				var all sync.WaitGroup
				if from != nil {
					all.Go(func() { s.attack(&all, from, stop) })
				}
				var took []time.Duration
				refused := 0
				for n := 0; b.Loop(); n++ {
					body, address := m{"email": "ada@example.com", "password": password}, here
					if known {
						body["device_token"] = device
					} else {
						address = fmt.Sprintf("8.1.%d.%d", n>>8&255, n&255)
					}
					begin := time.Now()
					if r := s.from(address, "/api/sessions", body); r.Status != 201 {
						refused++
					}
					took = append(took, time.Since(begin))
				}
				close(stop)
				all.Wait()
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
				b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
				b.ReportMetric(float64(refused)/float64(len(took)), "refused")
				b.ReportMetric(peak(b), "peak-MiB")
			})
		}
	}
}

// attack sends 1,000 wrong sign-ins a second until stop is closed, whatever becomes of those before.
func (s shop) attack(all *sync.WaitGroup, from func(n int) (address, email string), stop chan struct{}) {
	begin := time.Now()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Until(begin.Add(time.Duration(n) * time.Millisecond))):
		}
		address, email := from(n)
		all.Go(func() { s.guess(address, email, "wrong horse") })
	}
}

// peak returns the most memory that the process has had, in MiB.
func peak(b *testing.B) (mib float64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(line, &mib); err != nil {
		b.Fatal(err)
	}
	return mib / 1024
}
