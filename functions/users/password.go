package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// cost is the work of one hash. It is written into each hash, so that raising it leaves the old ones valid.
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// today is the first choice of OWASP's Password Storage Cheat Sheet for argon2id.
var today = cost{memory: 19 << 10, passes: 2, threads: 1}

const (
	saltSize = 16
	keySize  = 32
	// The most work that a stored hash may ask for; no hash was ever written with more.
	maxMemory = 256 << 10
	maxPasses = 16
)

// hasher makes and checks password hashes, at most a few at once: each takes 19 MiB and
// a core for some 20 ms, so that a burst of sign-ins would otherwise take all memory.
type hasher struct {
	queue *queue
	decoy string
}

func newHasher() *hasher {
	cpus := min(runtime.GOMAXPROCS(0), runtime.NumCPU())
	return &hasher{
		queue: newQueue(places(debug.SetMemoryLimit(-1), cpus)),
		decoy: phc(today, make([]byte, saltSize), make([]byte, keySize)),
	}
}

// places returns how many passwords are hashed at once: what fits a third of the runtime's memory limit, which the
// host sets from the container's, as many as there are processors, and four at most. A third, because the memory of a
// hash that is done stays until it is collected, which is late on a busy machine.
func places(limit int64, cpus int) int {
	fits := limit / 3 / (int64(today.memory) << 10)
	return int(max(1, min(fits, int64(cpus), 4)))
}

type callerKey struct{}

// withCaller returns a context in which work on passwords takes the caller's turn.
func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf returns the caller of the context, or else the address that the request comes from.
func callerOf(ctx context.Context) caller {
	if c, ok := ctx.Value(callerKey{}).(caller); ok {
		return c
	}
	return caller{key: network(function.ClientAddr(ctx))}
}

// network returns what stands for one client: an IPv4 address, or the /64 network of an IPv6 address, which one client
// has to itself. It is empty where no address is known.
func network(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the bits fit
	return p.String()
}

// hash returns a new PHC string for the password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	key, err := h.derive(ctx, password, salt, today)
	if err != nil {
		return "", err
	}
	return phc(today, salt, key), nil
}

// matches reports whether the password is the one that the PHC string was made from. With h.decoy
// it takes the same time as with any other, and does not match.
func (h *hasher) matches(ctx context.Context, password, stored string) (bool, error) {
	c, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, fault.Wrap(err, fault.Internal, "read a stored password")
	}
	got, err := h.derive(ctx, password, salt, c)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// outdated reports whether a hash was made at another cost than today's.
func outdated(stored string) bool {
	c, _, _, err := parsePHC(stored)
	return err != nil || c != today
}

// derived counts how often a password was worked on: what an observer from outside could tell by the time.
var derived atomic.Int64

func (h *hasher) derive(ctx context.Context, password string, salt []byte, c cost) ([]byte, error) {
	if err := h.queue.acquire(ctx, callerOf(ctx)); err != nil {
		return nil, err
	}
	defer h.queue.release()
	derived.Add(1)
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, keySize), nil
}

// phc is the Password Hashing Competition's string format, as the argon2 reference code writes it.
func phc(c cost, salt, key []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads, b64(salt),
		b64(key))
}

func parsePHC(s string) (c cost, salt, key []byte, err error) {
	bad := errors.New("not an argon2id PHC string")
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return cost{}, nil, nil, bad
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil {
		return cost{}, nil, nil, bad
	}
	if c.memory < 8 || c.memory > maxMemory || c.passes < 1 || c.passes > maxPasses || c.threads < 1 {
		return cost{}, nil, nil, errors.New("an argon2id PHC string whose cost is out of bounds")
	}
	salt, errSalt := base64.RawStdEncoding.Strict().DecodeString(part[4])
	key, errKey := base64.RawStdEncoding.Strict().DecodeString(part[5])
	if errSalt != nil || errKey != nil || len(salt) < 8 || len(key) != keySize {
		return cost{}, nil, nil, bad
	}
	return c, salt, key, nil
}

// work remembers what was hashed for one request, because its handler may be run again.
type work struct {
	made   string
	judged map[string]bool
}

func (w *work) hash(ctx context.Context, h *hasher, password string) (string, error) {
	if w.made != "" {
		return w.made, nil
	}
	made, err := h.hash(ctx, typed(password))
	w.made = made
	return made, err
}

// matches reports whether the password is the stored one. Versions of this function from before passwords were
// normalised have hashed what was typed, so that counts too. How often a password is worked on depends on nothing else.
func (w *work) matches(ctx context.Context, h *hasher, password, stored string) (bool, error) {
	if ok, known := w.judged[stored]; known {
		return ok, nil
	}
	ok, err := h.matches(ctx, typed(password), stored)
	if err == nil && typed(password) != password {
		var before bool
		before, err = h.matches(ctx, password, stored)
		ok = ok || before
	}
	if err == nil {
		if w.judged == nil {
			w.judged = map[string]bool{}
		}
		w.judged[stored] = ok
	}
	return ok, err
}
