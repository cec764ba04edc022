package function

import "testing"

// A notice stands until somebody has looked who began after it was given.
func TestNotice(t *testing.T) {
	var n notice
	if n.stands() {
		t.Error("one stands that nobody has given")
	}
	n.give()
	first := n.latest()
	n.give() // while somebody looks because of the first
	n.heed(first)
	if !n.stands() {
		t.Error("the second does not stand any more")
	}
	n.heed(n.latest())
	n.heed(first) // who began earlier comes later
	if n.stands() {
		t.Error("one stands that was heeded")
	}
}
