package users

import (
	"context"
	"math"
)

// What the tests of the rules look at.
var (
	Normalise   = normalise
	MaxSessions = maxSessions
)

func EmailFaults(email string) int { return len(checkEmail(normalise(email))) }
func NameFaults(name string) int   { return len(checkName(name)) }
func PasswordFaults(password string) int {
	c := Config{PasswordMin: 15, Issuer: "ebb", Audience: "ebb"}
	return len(c.checkPassword("", password, c.PasswordMin, account{Name: "Ada Lovelace", Email: "ada.l@bücher.example"}))
}

func Hash(password string) (string, error) { return newHasher().hash(context.Background(), password) }
func Matches(password, phc string) (bool, error) {
	return newHasher().matches(context.Background(), password, phc)
}

// HashOnce and MatchesOnce work on a password as a request does.
func HashOnce(password string) (string, error) {
	return new(work).hash(context.Background(), newHasher(), password)
}
func MatchesOnce(password, phc string) (bool, error) {
	return new(work).matches(context.Background(), newHasher(), password, phc)
}

func Common(password string) bool { return isCommon(password) }

func Outdated(phc string) bool { return outdated(phc) }
func Decoy() string            { return newHasher().decoy }

// Derived is how often a password was worked on so far.
func Derived() int64 { return derived.Load() }

// HashTwice is what one request gets whose handler runs twice.
func HashTwice(password string) (first, second string) {
	w, h := work{}, newHasher()
	first, _ = w.hash(context.Background(), h, password)
	second, _ = w.hash(context.Background(), h, password)
	return first, second
}

// FullHouse is what becomes of a request that finds all places for hashing taken and whose time is up.
func FullHouse(ctx context.Context) error {
	h := newHasher()
	h.queue.free = 0
	_, err := h.hash(ctx, "whatever it is")
	return err
}

// NoLimit is the memory limit of a runtime that has none.
const NoLimit = math.MaxInt64

// Places is how many passwords are worked on at once.
func Places(limit int64, cpus int) int { return places(limit, cpus) }

// Queue hands out places.
type Queue struct{ q *queue }

func NewQueue(places int) Queue { return Queue{newQueue(places)} }

func (q Queue) Acquire(ctx context.Context, key string, known bool) error {
	return q.q.acquire(ctx, caller{key, known})
}
func (q Queue) Release() { q.q.release() }
