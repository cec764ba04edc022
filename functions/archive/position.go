package archive

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"
)

// position is the place of an event in the log: a text that sorts as the events do.
//
// It is the time of arrival in hexadecimal nanoseconds, 16 digits, and 8 more that tell apart what arrived at the same
// time at several instances. An older version of the archive counted its events: such a position has 16 digits, and
// comes before all others.
type position string

// firstPosition is before all positions that are times: those of older versions are below it.
const firstPosition = "1000000000000000"

// endless is the end of a span that reaches to the end of the log.
const endless = "g"

// UnmarshalJSON implements json.Unmarshaler. Older versions wrote numbers.
func (p *position) UnmarshalJSON(data []byte) error {
	if n, err := strconv.ParseInt(string(data), 10, 64); err == nil {
		*p = counted(n)
		return nil
	}
	var text string
	err := json.Unmarshal(data, &text)
	*p = position(text)
	return err
}

// counted returns the position of the n-th event of an older version.
func counted(n int64) position { return position(fmt.Sprintf("%016x", n)) }

// count returns n of a position counted(n); ok is false for a time.
func (p position) count() (n int64, ok bool) {
	if len(p) != 16 || p >= firstPosition {
		return 0, false
	}
	n, err := strconv.ParseInt(string(p), 16, 64)
	return n, err == nil
}

// positionAt returns the position of an event that arrived at a time, in nanoseconds. The id tells it apart from
// others.
func positionAt(nanoseconds int64, id string) position {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return position(fmt.Sprintf("%016x%08x", max(nanoseconds, minTime), h.Sum32()))
}

// minTime is the time of firstPosition, in 2006.
const minTime = 0x1000000000000000

// from returns the beginning of the span of positions that are at the time or later.
func from(t time.Time) string { return fmt.Sprintf("%016x", max(t.UnixNano(), minTime)) }

// time returns the time of a position in nanoseconds; 0 when it is not a time.
func (p position) time() int64 {
	if len(p) < 16 || p < firstPosition {
		return 0
	}
	n, _ := strconv.ParseInt(string(p[:16]), 16, 64)
	return n
}

// next returns the beginning of the span of positions after p.
func (p position) next() string {
	if n, ok := p.count(); ok {
		return string(counted(n + 1))
	}
	return string(p) + "0"
}

// isPosition reports whether a text has the form of a position.
func isPosition(text string) bool {
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(text) == 16 && text < firstPosition || len(text) == 24
}

// span is a range of positions, the end excluded.
type span struct{ first, end string }

func (s span) empty() bool { return s.first >= s.end }

// without returns the rest of the span after the event at the position, or before it.
func (s span) without(p position, desc bool) span {
	if desc {
		return span{s.first, string(p)}
	}
	return span{p.next(), s.end}
}
