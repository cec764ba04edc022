package function

import "testing"

// A mark stays until a worker has looked that began after it was set.
func TestDirtyFlag(t *testing.T) {
	var d dirtyFlag
	if d.isSet() {
		t.Error("it is set before it was marked")
	}
	d.mark()
	first := d.latest()
	d.mark() // while a worker looks because of the first
	d.clear(first)
	if !d.isSet() {
		t.Error("the second mark is gone")
	}
	d.clear(d.latest())
	d.clear(first) // a worker that began earlier ends later
	if d.isSet() {
		t.Error("a mark that was cleared is set")
	}
}
