package eventlog

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// position says where an event is in the log: the entry, and the index in it.
type position struct {
	entry uint64
	index int
}

// Cursor says what a trigger has finished: everything before Next, but not what is Open.
type Cursor struct {
	Next uint64
	Open []position // ascending
}

// low returns the position before which the trigger needs nothing any more.
func (c Cursor) low() uint64 {
	if len(c.Open) > 0 {
		return c.Open[0].entry
	}
	return c.Next
}

// clamp returns the cursor as it must be in a log that ends at end.
func (c Cursor) clamp(end uint64) Cursor {
	open := slices.DeleteFunc(slices.Clone(c.Open), func(p position) bool { return p.entry >= end })
	return Cursor{Next: min(c.Next, end), Open: open}
}

const cursorVersion = 1

func (c Cursor) encode() []byte {
	b := make([]byte, 0, 16+4*len(c.Open))
	b = append(b, cursorVersion)
	b = binary.AppendUvarint(b, c.Next)
	b = binary.AppendUvarint(b, uint64(len(c.Open)))
	var last uint64
	for _, p := range c.Open {
		b = binary.AppendUvarint(b, p.entry-last)
		b = binary.AppendUvarint(b, uint64(p.index))
		last = p.entry
	}
	return b
}

func decodeCursor(b []byte) (c Cursor, err error) {
	if len(b) == 0 || b[0] != cursorVersion {
		return c, fmt.Errorf("cursor of %d bytes is of no known version", len(b))
	}
	b = b[1:]
	next := func() (v uint64) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = fmt.Errorf("cursor is cut short")
			return 0
		}
		b = b[n:]
		return v
	}
	c.Next = next()
	n := next()
	if n > uint64(len(b)) {
		return c, fmt.Errorf("cursor is cut short")
	}
	var last uint64
	for ; n > 0 && err == nil; n-- {
		last += next()
		c.Open = append(c.Open, position{last, int(next())})
	}
	return c, err
}
