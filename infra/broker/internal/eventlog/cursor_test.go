package eventlog

import (
	"bytes"
	"reflect"
	"testing"
)

// A cursor comes back from its bytes, and what is cut off anywhere is refused.
func TestCursor(t *testing.T) {
	for _, want := range []Cursor{{Next: 1}, {Next: 1 << 40, Open: []position{{3, 0}, {3, 7}, {1 << 33, 255}}}} {
		b := want.encode()
		if got, err := decodeCursor(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		for n := range b {
			if got, err := decodeCursor(b[:n]); err == nil {
				t.Errorf("the first %d bytes of %v were read as %v", n, want, got)
			}
		}
	}
}

// Arbitrary bytes never bring the reader down, and what it reads comes back from what it writes. That asks no
// memory beyond the input's size: a cursor may be the torn end of a file.
func FuzzDecodeCursor(f *testing.F) {
	f.Add([]byte{})
	f.Add(Cursor{Next: 1}.encode())
	f.Add(Cursor{Next: 300, Open: []position{{3, 0}, {3, 7}, {280, 255}}}.encode())
	f.Add([]byte{cursorVersion, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCursor(b)
		if err != nil {
			return
		}
		if len(c.Open) > len(b) {
			t.Fatalf("%d open events from %d bytes", len(c.Open), len(b))
		}
		again, err := decodeCursor(c.encode())
		if err != nil || again.Next != c.Next || !bytes.Equal(again.encode(), c.encode()) {
			t.Fatalf("got %v, then %v, %v", c, again, err)
		}
	})
}

// In a log that ends before it, a cursor is at the end, and what was open after that is gone.
func TestClamp(t *testing.T) {
	c := Cursor{Next: 10, Open: []position{{2, 0}, {4, 1}, {5, 0}, {9, 3}}}
	if got, want := c.clamp(5), (Cursor{Next: 5, Open: []position{{2, 0}, {4, 1}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := c.clamp(10); !reflect.DeepEqual(got, c) {
		t.Errorf("got %v, want %v", got, c)
	}
}
