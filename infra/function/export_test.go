package function

import "time"

// Gathered returns how many follow-ups share a unit, of n that are all ready when the wait for others is over.
func Gathered(n int) int {
	done := make(chan *following, n)
	for range n {
		done <- &following{}
	}
	return len(gather(done, n, -time.Second))
}
