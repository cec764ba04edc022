// Package blob is the port to a store of data that is too large for an event or a document: claim checks of a broker,
// uploads. Every driver passes the suite in blobtest.
package blob

import (
	"cmp"
	"context"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Blob is a piece of data with its media type.
type Blob struct {
	Type string // such as image/png; "": application/octet-stream
	Data []byte
}

// Driver stores blobs by their keys. Its methods may be called concurrently. An error is fault.NotFound for a blob that
// does not exist, fault.TooLarge for one that is larger than it may be, fault.Denied and fault.Unauthenticated when the
// store refuses the credentials, and fault.Unavailable when it does not respond: then a Put may have succeeded.
type Driver interface {
	// Put stores a blob, and replaces the one with that key. When it returns nil the blob is durable, and every later Get
	// of any process returns it.
	Put(ctx context.Context, key string, b Blob) error

	// Get returns a blob of at most limit bytes.
	Get(ctx context.Context, key string, limit int64) (Blob, error)

	// Delete removes a blob. It does nothing when there is none.
	Delete(ctx context.Context, key string) error

	// Sign returns a request that anyone may send until the grant ends, without further credentials. It does not look
	// whether the blob exists.
	Sign(ctx context.Context, g Grant) (Signed, error)

	// URI returns the address that names a blob of the store in events and logs. It is no address to fetch it from.
	URI(key string) string
}

// Grant says what a signed request may do.
type Grant struct {
	Method string // http.MethodGet or http.MethodPut
	Key    string
	For    time.Duration // how long, from now on; up to seven days

	// Of a PUT: the media type and the exact number of bytes. The store refuses another upload.
	Type string
	Size int64
}

// Signed is a request that may be sent: with this method, to this URL, with these headers.
type Signed struct {
	Method, URL string
	Header      http.Header
}

// Rules are what a Store enforces. The zero value has the defaults.
type Rules struct {
	MaxBytes int64    // of a blob; 0: 1 MiB
	Types    []string // media types that are taken, such as image/png or image/*; none: every type

	// Scan looks at a blob before it is stored or handed out, for example for viruses; nil: none. Its error is returned,
	// and is fault.Invalid for a blob that must not be used. Before a download is signed it looks at what is there then:
	// who still has a signed upload of that key can replace it.
	Scan func(ctx context.Context, key string, b Blob) error
}

// Store is a Driver with rules.
type Store struct {
	driver Driver
	rules  Rules
}

// New returns a store with rules over the driver.
func New(d Driver, r Rules) *Store {
	if r.MaxBytes == 0 {
		r.MaxBytes = 1 << 20
	}
	return &Store{d, r}
}

// Put stores a blob that the rules allow. An error is of Driver, or fault.Invalid or fault.TooLarge by a rule.
func (s *Store) Put(ctx context.Context, key string, b Blob) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	b.Type = cmp.Or(b.Type, octets)
	if err := s.check(b.Type, int64(len(b.Data))); err != nil {
		return err
	}
	if err := s.scan(ctx, key, b); err != nil {
		return err
	}
	return s.driver.Put(ctx, key, b)
}

// Get returns a blob, after the rules have been applied to it: who has a signed URL stores without the scan.
func (s *Store) Get(ctx context.Context, key string) (Blob, error) {
	if err := CheckKey(key); err != nil {
		return Blob{}, err
	}
	b, err := s.driver.Get(ctx, key, s.rules.MaxBytes)
	b.Type = cmp.Or(b.Type, octets)
	if err == nil {
		err = s.check(b.Type, int64(len(b.Data)))
	}
	if err == nil {
		err = s.scan(ctx, key, b)
	}
	if err != nil {
		return Blob{}, err
	}
	return b, nil
}

// Delete removes a blob. It does nothing when there is none.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return s.driver.Delete(ctx, key)
}

// URI returns the address that names a blob of the store.
func (s *Store) URI(key string) string { return s.driver.URI(key) }

// maxGrant is how long a signed request is valid at most; S3 allows no more.
const maxGrant = 7 * 24 * time.Hour

// octets is the media type of a blob that has none.
const octets = "application/octet-stream"

// Sign returns a request that anyone may send until the grant ends. It refuses an upload against the rules, and, where
// there is a scan, a download of what the rules do not allow or what does not exist: it reads the blob for that.
func (s *Store) Sign(ctx context.Context, g Grant) (Signed, error) {
	if err := CheckKey(g.Key); err != nil {
		return Signed{}, err
	}
	if g.Method == http.MethodPut {
		g.Type = cmp.Or(g.Type, octets)
	}
	switch {
	case g.For <= 0 || g.For > maxGrant:
		return Signed{}, fault.New(fault.Invalid, "invalid duration %s of a signed request: want more than 0, and %s at most",
			g.For, maxGrant)
	case g.Method == http.MethodPut:
		if err := s.check(g.Type, g.Size); err != nil {
			return Signed{}, err
		}
		if g.Size <= 0 {
			return Signed{}, fault.New(fault.Invalid, "a signed upload needs its number of bytes")
		}
	case g.Method != http.MethodGet:
		return Signed{}, fault.New(fault.Invalid, "invalid method %.20q of a signed request: want GET or PUT", g.Method)
	case s.rules.Scan != nil:
		if _, err := s.Get(ctx, g.Key); err != nil {
			return Signed{}, err
		}
	}
	return s.driver.Sign(ctx, g)
}

func (s *Store) scan(ctx context.Context, key string, b Blob) error {
	if s.rules.Scan == nil {
		return nil
	}
	return s.rules.Scan(ctx, key, b)
}

func (s *Store) check(mediaType string, size int64) error {
	if size > s.rules.MaxBytes {
		return TooLarge(size, s.rules.MaxBytes)
	}
	if len(s.rules.Types) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(mediaType)
	if err != nil || !slices.ContainsFunc(s.rules.Types, func(allowed string) bool { return matches(media, allowed) }) {
		return fault.New(fault.Invalid, "a blob of type %.100q is not allowed (use %s)", mediaType,
			strings.Join(s.rules.Types, ", "))
	}
	return nil
}

// matches reports whether a media type is allowed by a pattern, such as image/*.
func matches(media, allowed string) bool {
	kind, any := strings.CutSuffix(allowed, "/*")
	return media == allowed || any && strings.HasPrefix(media, kind+"/")
}

// TooLarge returns the error of a blob with too many bytes. Drivers use it.
func TooLarge(size, limit int64) error {
	return fault.New(fault.TooLarge, "a blob has %d bytes; want %d at most", size, limit)
}

// NotFound returns the error of a blob that does not exist. Drivers use it.
func NotFound(uri string) error { return fault.New(fault.NotFound, "there is no blob %s", uri) }

// maxKey is the most bytes of a key.
const maxKey = 512

// CheckKey refuses with fault.Invalid a key that is no path of names with letters, digits, ".", "_" and "-", none of
// which begins with a dot.
func CheckKey(key string) error {
	ok := key != "" && len(key) <= maxKey
	for name := range strings.SplitSeq(key, "/") {
		ok = ok && name != "" && name[0] != '.' && strings.IndexFunc(name, notKey) < 0
	}
	if !ok {
		return fault.New(fault.Invalid, "invalid key %.50q of a blob: want names with letters, digits, ., _ and -, with / "+
			"between them", key)
	}
	return nil
}

func notKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}
