package balance_test

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/balance"
)

// The model of the benchmarks runs in virtual time: ten instances with four workers each, in front of them 20 clients
// that each send the next request when the last one is answered. A request takes 10 ms of a worker, plus or minus half.
const (
	instancesInModel = 10
	workers          = 4
	clients          = 20
	requestsInModel  = 50_000
	work             = 10 * time.Millisecond
)

// finish is the end of a request in the model.
type finish struct {
	at     time.Duration
	begun  time.Duration
	client int
	member *balance.Member
}

type finishes []finish

func (f finishes) Len() int           { return len(f) }
func (f finishes) Less(i, j int) bool { return f[i].at < f[j].at }
func (f finishes) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *finishes) Push(x any)        { *f = append(*f, x.(finish)) }
func (f *finishes) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// outcome is what a run of the model has found.
type outcome struct {
	count     map[string]int
	latencies []time.Duration // sorted
}

func (o outcome) percentile(p float64) float64 {
	return float64(o.latencies[int(p*float64(len(o.latencies)-1))]) / float64(work)
}

// model runs requests through a balancer. Instance a takes slower times as long as the others.
func model(b balance.Balancer, slower float64) outcome {
	random := rand.New(rand.NewPCG(1, 2))
	if two, ok := b.(*balance.TwoChoices); ok {
		two.Random = random.IntN
	}
	p, all := newPool(balance.Config{Balancer: b}), list("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	free := map[string][]time.Duration{} // when each worker is free
	for _, i := range all {
		free[i.ID] = make([]time.Duration, workers)
	}
	o := outcome{count: map[string]int{}}
	var under finishes
	send := func(client int, now time.Duration) {
		m := p.Pick(from("10.0.0."+string(rune('A'+client))+":1"), all)
		o.count[m.Instance.ID]++
		takes := time.Duration(float64(work) * (0.5 + random.Float64()))
		if m.Instance.ID == "a" {
			takes = time.Duration(float64(takes) * slower)
		}
		of := free[m.Instance.ID]
		first := 0
		for w := range of {
			if of[w] < of[first] {
				first = w
			}
		}
		of[first] = max(of[first], now) + takes
		heap.Push(&under, finish{of[first], now, client, m})
	}
	for c := range clients {
		send(c, 0)
	}
	for len(o.latencies) < requestsInModel {
		f := heap.Pop(&under).(finish)
		f.member.Done(false)
		o.latencies = append(o.latencies, f.at-f.begun)
		send(f.client, f.at)
	}
	slices.Sort(o.latencies)
	return o
}

// BenchmarkBalancers prints a figure for each balancer: spread is the requests of the busiest of ten equal instances
// through those of the idlest; slow-share is the part of the requests, in percent, that an instance gets which is ten
// times slower, and p50 and p99 are latencies then, in multiples of what a request takes of a fast instance.
func BenchmarkBalancers(b *testing.B) {
	for _, name := range balance.Names() {
		b.Run(name, func(b *testing.B) {
			var equal, slow outcome
			for b.Loop() {
				one, _ := balance.ByName(name)
				equal = model(one, 1)
				one, _ = balance.ByName(name)
				slow = model(one, 10)
			}
			most, least := 0, requestsInModel
			for _, i := range list("a", "b", "c", "d", "e", "f", "g", "h", "i", "j") {
				most, least = max(most, equal.count[i.ID]), min(least, equal.count[i.ID])
			}
			b.ReportMetric(float64(most)/float64(max(least, 1)), "spread")
			b.ReportMetric(100*float64(slow.count["a"])/requestsInModel, "slow-share-%")
			b.ReportMetric(slow.percentile(.5), "p50")
			b.ReportMetric(slow.percentile(.99), "p99")
		})
	}
}

// BenchmarkPick measures one choice among ten instances, with many at the same time.
func BenchmarkPick(b *testing.B) {
	for _, name := range balance.Names() {
		b.Run(name, func(b *testing.B) {
			one, _ := balance.ByName(name)
			p, all := newPool(balance.Config{Balancer: one}), list("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
			r := from("10.0.0.1:4711")
			b.ReportAllocs()
			b.RunParallel(func(loop *testing.PB) {
				for loop.Next() {
					p.Pick(r, all).Done(false)
				}
			})
		})
	}
}

// A slow instance holds up the requests of round robin, and hardly any of those that look at what is under way. The
// model has no luck in it: the draws have a fixed seed.
func TestModel(t *testing.T) {
	for name, c := range map[string]struct{ share, p99 [2]float64 }{
		"round-robin":       {[2]float64{.09, .11}, [2]float64{10, 200}},
		"least-connections": {[2]float64{0, .04}, [2]float64{1, 15}},
		"two-choices":       {[2]float64{0, .04}, [2]float64{1, 15}},
	} {
		b, err := balance.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		o := model(b, 10)
		share, p99 := float64(o.count["a"])/requestsInModel, o.percentile(.99)
		if share < c.share[0] || share > c.share[1] || p99 < c.p99[0] || p99 > c.p99[1] {
			t.Errorf("%s: the slow instance gets %.3f of the requests, and p99 is %.1f", name, share, p99)
		}
	}
}
