package eventlog

import (
	"reflect"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// Attempts come back from their bytes, and what is cut off anywhere is refused, except for no bytes: no attempts.
func TestAttempts(t *testing.T) {
	for _, want := range []attempts{
		{tries: map[position]tries{}},
		{running: true, deaths: 3, upTo: 1 << 40, tries: map[position]tries{
			{7, 0}:         {1 << 31, delivery.Tries{Attempts: 4, Begun: true}},
			{1 << 33, 255}: {0, delivery.Tries{Attempts: 300}},
		}},
	} {
		b := want.encode()
		if got, err := decodeAttempts(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		for n := 1; n < len(b); n++ {
			if got, err := decodeAttempts(b[:n]); err == nil {
				t.Errorf("the first %d bytes of %v were read as %v", n, want, got)
			}
		}
	}
}

// Arbitrary bytes never bring the reader down, and ask no memory beyond the input's size.
func FuzzDecodeAttempts(f *testing.F) {
	f.Add([]byte{})
	f.Add(attempts{running: true, deaths: 1, upTo: 9}.encode())
	f.Add([]byte{attemptsVersion, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAttempts(b)
		if err != nil {
			return
		}
		if again, err := decodeAttempts(a.encode()); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("got %v, then %v, %v", a, again, err)
		}
	})
}
