package eventlog

import "sync"

// Recent holds the entries that a process appended last, so that they need not be read back and decoded. Their
// positions are consecutive: an entry of another process between them clears those before it. The zero value is
// empty. The methods may be called concurrently.
type Recent struct {
	mu      sync.Mutex
	entries []Entry
	sizes   []int
	bytes   int
}

// recentBytes limits the encoded size of the held entries.
const recentBytes = 2 << 20

// Add adds the entry that was appended last, with its encoded size in bytes.
func (r *Recent) Add(e Entry, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.entries); n > 0 && r.entries[n-1].Pos+1 != e.Pos {
		r.entries, r.sizes, r.bytes = nil, nil, 0
	}
	r.entries, r.sizes, r.bytes = append(r.entries, e), append(r.sizes, size), r.bytes+size
	for r.bytes > recentBytes && len(r.entries) > 1 {
		r.bytes -= r.sizes[0]
		r.entries[0] = Entry{}
		r.entries, r.sizes = r.entries[1:], r.sizes[1:]
	}
}

// Read returns held entries when from is among them. Behind the last one it returns true with no entries only if alone
// is set, when no other process appends to the log.
func (r *Recent) Read(from uint64, limit int, alone bool) ([]Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) == 0 || from < r.entries[0].Pos {
		return nil, false
	}
	i := from - r.entries[0].Pos
	if i >= uint64(len(r.entries)) {
		return nil, alone
	}
	end := min(i+uint64(limit), uint64(len(r.entries)))
	return append([]Entry(nil), r.entries[i:end]...), true
}
