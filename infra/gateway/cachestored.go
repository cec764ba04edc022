package gateway

import (
	"encoding/binary"
	"net/http"
	"time"
)

// storedVersion is the first byte of an answer in a store. One that was written by a gateway of another version does
// not count.
const storedVersion = 1

// encodeStored returns an answer as bytes.
func encodeStored(s *stored) []byte {
	b := append(make([]byte, 0, len(s.body)+1024), storedVersion)
	number := func(n int64) { b = binary.AppendVarint(b, n) }
	text := func(t string) { number(int64(len(t))); b = append(b, t...) }
	texts := func(all []string) {
		number(int64(len(all)))
		for _, t := range all {
			text(t)
		}
	}
	at := int64(0)
	if !s.at.IsZero() {
		at = s.at.UnixNano()
	}
	for _, n := range []int64{int64(s.status), at, int64(s.fresh), int64(s.stale), int64(s.onError)} {
		number(n)
	}
	texts(s.vary)
	number(int64(len(s.header)))
	for name, values := range s.header {
		text(name)
		texts(values)
	}
	return append(b, s.body...)
}

// decodeStored returns the answer in a store; nil for what is none.
func decodeStored(b []byte) *stored {
	if len(b) == 0 || b[0] != storedVersion {
		return nil
	}
	b, ok := b[1:], true
	number := func() int64 {
		n, size := binary.Varint(b)
		if size <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[size:]
		return n
	}
	text := func() string {
		n := number()
		if n < 0 || n > int64(len(b)) {
			ok = false
			return ""
		}
		t := string(b[:n])
		b = b[n:]
		return t
	}
	texts := func() (all []string) {
		for n := number(); n > 0 && ok; n-- {
			all = append(all, text())
		}
		return all
	}
	s := &stored{status: int(number())}
	if at := number(); at != 0 {
		s.at = time.Unix(0, at)
	}
	s.fresh, s.stale, s.onError = time.Duration(number()), time.Duration(number()), time.Duration(number())
	s.vary = texts()
	n := number()
	s.header = make(http.Header, min(max(n, 0), 64))
	for ; n > 0 && ok; n-- {
		name := text()
		s.header[name] = texts()
	}
	if s.body = b; !ok || s.status == 0 && len(s.vary) == 0 {
		return nil
	}
	return s
}
