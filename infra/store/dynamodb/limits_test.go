package dynamodb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
)

var indexed = store.Schema{
	{Name: "things", Indexes: []store.Index{store.On("n")}}, {Name: "others"}, {Name: "once", SingleUse: true},
}

func thing(id string) store.Key { return store.Key{Collection: "things", ID: id} }
func other(id string) store.Key { return store.Key{Collection: "others", ID: id} }

func put(k store.Key, version int64, data string) store.Mutation {
	return store.Mutation{Key: k, Version: version, Data: []byte(data)}
}

func at(k store.Key, version int64) store.Precondition {
	return store.Precondition{Key: k, Version: version}
}

func try(t *testing.T, d store.Driver, pre []store.Precondition, mutations ...store.Mutation) error {
	t.Helper()
	return d.Commit(t.Context(), store.Batch{Preconditions: pre, Mutations: mutations})
}

func commit(t *testing.T, d store.Driver, mutations ...store.Mutation) {
	t.Helper()
	if err := try(t, d, nil, mutations...); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, d store.Driver, q store.Query) (found []string) {
	t.Helper()
	docs, _, err := d.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		found = append(found, doc.ID)
	}
	return found
}

// What DynamoDB would refuse is refused with the reason, although the emulator takes it, and nothing of its batch is
// stored.
func TestLimits(t *testing.T) {
	s := open(t, indexed)
	defer s.Close()
	big := func(n int) string { return `{"text":"` + strings.Repeat("x", n) + `"}` }
	var many, large []store.Mutation
	var watched []store.Precondition
	for i := range 101 {
		many = append(many, put(other(fmt.Sprint(i)), 1, `{}`))
		watched = append(watched, at(other(fmt.Sprint(i)), 0))
	}
	for i := range 11 {
		large = append(large, put(other(fmt.Sprint(i)), 1, big(390<<10)))
	}
	var rows []store.Mutation
	for i := range 51 {
		rows = append(rows, put(thing(fmt.Sprint(i)), 1, `{"n":1}`))
	}
	for name, c := range map[string]struct {
		pre   []store.Precondition
		batch []store.Mutation
		kind  fault.Kind
		says  string
	}{
		"an item of more than 400 KB": {
			nil, []store.Mutation{put(other("a"), 1, big(400<<10))}, fault.TooLarge, "at most 409600",
		},
		"101 documents":                {nil, many, fault.TooLarge, "101 actions"},
		"51 documents with a row each": {nil, rows, fault.TooLarge, "102 actions"},
		"101 with those that are read": {watched[1:], many[:1], fault.TooLarge, "101 actions"},
		"more than 4 MB":               {nil, large, fault.TooLarge, "at most 4194304"},
		"an id of more than 1023 bytes": {
			nil, []store.Mutation{put(other(strings.Repeat("x", 1024)), 1, `{}`)}, fault.Invalid, "1023 at most",
		},
		"an indexed text that is too long": {
			nil, []store.Mutation{put(thing("a"), 1, `{"n":"`+strings.Repeat("x", 1020)+`"}`)}, fault.Invalid, "1024 at most",
		},
		"an id that is no text": {nil, []store.Mutation{put(other("\xff"), 1, `{}`)}, fault.Invalid, "UTF-8"},
		"data that is no text": {
			nil, []store.Mutation{put(other("a"), 1, "{\"a\":\"\xff\"}")}, fault.Invalid, "UTF-8",
		},
		"one item twice": {
			nil, []store.Mutation{put(other("a"), 1, `{}`), put(other("a"), 2, `{}`)}, fault.Internal, "twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := try(t, s, c.pre, c.batch...)
			if !fault.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v: %v", fault.KindOf(err), err)
			}
		})
	}
	for _, collection := range []string{"things", "others"} {
		if found := ids(t, s, store.Query{Collection: collection, Limit: 10}); len(found) > 0 {
			t.Errorf("%s are stored", found)
		}
	}
	if err := try(t, s, watched[1:100], many[0]); err != nil {
		t.Errorf("100 actions: %v", err)
	}
}

// More documents than one transaction reads are read from one state all the same.
func TestManyKeys(t *testing.T) {
	s := open(t, indexed)
	defer s.Close()
	var keys []store.Key
	for i := range 250 {
		keys = append(keys, other(fmt.Sprint(i)))
	}
	commit(t, s, put(keys[0], 1, `{}`), put(keys[249], 1, `{}`))
	docs, err := s.Get(t.Context(), keys...)
	if err != nil || docs[0].Version != 1 || docs[249].Version != 1 || docs[1].Version != 0 {
		t.Errorf("got %d documents, %v", len(docs), err)
	}
}

// wire is a transport that a test looks at and breaks.
type wire struct {
	mu     sync.Mutex
	calls  []string // the operations
	bodies []string // of TransactWriteItems
	lose   int      // so many answers of TransactWriteItems are lost
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	response, err := http.DefaultTransport.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, operation)
	if operation != "TransactWriteItems" {
		return response, err
	}
	w.bodies = append(w.bodies, string(body))
	if w.lose > 0 && err == nil {
		w.lose--
		_ = response.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return response, err
}

func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.bodies = nil, nil
}

func openOn(t *testing.T, w *wire, schema store.Schema) *dynamodb.Store {
	t.Helper()
	dynamodbtest.Need(t)
	dynamodbtest.CreateTable(t, tableOf(t).Table)
	s, err := dynamodb.Open(t.Context(), tableOf(t).With(w), schema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var token = regexp.MustCompile(`"ClientRequestToken":"([^"]+)"`)

// A commit whose answer is lost is sent again with the same token, by which DynamoDB applies it once; the emulator has
// no tokens. The next commit has another one.
func TestToken(t *testing.T) {
	w := &wire{}
	s := openOn(t, w, indexed)
	defer s.Close()
	w.reset()
	w.lose = 1
	commit(t, s, put(other("a"), 1, `{}`))
	commit(t, s, put(other("a"), 2, `{}`))
	var tokens []string
	for _, b := range w.bodies {
		tokens = append(tokens, token.FindStringSubmatch(b)[1])
	}
	if len(tokens) != 3 || tokens[0] != tokens[1] || tokens[1] == tokens[2] {
		t.Errorf("got %q", tokens)
	}
}

// A unit of work that reads a document and writes it is two calls: the commit needs no read to know the rows. No call
// is a scan.
func TestCalls(t *testing.T) {
	w := &wire{}
	s := openOn(t, w, indexed)
	defer s.Close()
	commit(t, s, put(thing("a"), 1, `{"n":1}`))
	w.reset()
	if _, err := s.Get(t.Context(), thing("a")); err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, []store.Precondition{at(thing("a"), 1)}, put(thing("a"), 2, `{"n":2}`)); err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, []store.Precondition{at(thing("a"), 2)}, put(thing("a"), 3, `{"n":2,"m":1}`)); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(w.calls), "[GetItem TransactWriteItems TransactWriteItems]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i, want := range []int{3, 1} { // the document, the old row, the new one; then the document alone
		if got := strings.Count(w.bodies[i], `"TableName"`); got != want {
			t.Errorf("commit %d has %d actions, want %d", i, got, want)
		}
	}
	if n := s.Count(t)["i/things/n"]; n != 1 {
		t.Errorf("%d rows of one document", n)
	}
}

// A handle that has seen a document before another handle has changed it removes the rows that are there.
func TestRowsFollow(t *testing.T) {
	a, b := open(t, indexed), open(t, indexed)
	defer a.Close()
	defer b.Close()
	commit(t, a, put(thing("x"), 1, `{"n":1}`))
	commit(t, b, put(thing("x"), 2, `{"n":2}`))
	commit(t, a, put(thing("x"), 3, `{"n":3}`))
	if n := a.Count(t)["i/things/n"]; n != 1 {
		t.Errorf("%d rows of one document that two handles have written", n)
	}
	commit(t, b, store.Mutation{Key: thing("x")})
	commit(t, a, put(thing("x"), 5, `{"n":5}`))
	if n := a.Count(t)["i/things/n"]; n != 1 {
		t.Errorf("%d rows of one document", n)
	}
	order := []store.Order{{Field: "n"}}
	if found := ids(t, b, store.Query{Collection: "things", Order: order, Limit: 5}); fmt.Sprint(found) != "[x]" {
		t.Errorf("got %s", found)
	}
}

// Documents of before an index was declared get their rows, also those that an older instance writes meanwhile.
func TestNewIndex(t *testing.T) {
	defer dynamodb.SetLag(0, time.Hour)()
	older := open(t, store.Schema{{Name: "things"}})
	defer older.Close()
	for i := range 30 {
		commit(t, older, put(thing(fmt.Sprintf("%02d", i)), 1, fmt.Sprintf(`{"n":%d}`, 100-i)))
	}
	newer := open(t, indexed)
	defer newer.Close()
	q := store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 2}
	if found := ids(t, newer, q); fmt.Sprint(found) != "[29 28]" {
		t.Errorf("got %s", found)
	}
	commit(t, older, put(thing("late"), 1, `{"n":1}`), put(thing("29"), 2, `{"n":200}`))
	if found := ids(t, newer, q); fmt.Sprint(found) != "[late 28]" {
		t.Errorf("got %s", found)
	}
	if n := newer.Count(t)["i/things/n"]; n != 31 {
		t.Errorf("%d rows of 31 documents", n)
	}
}

// A document of a single-use collection that expires has the TTL attribute, and so have its rows; it goes when it is
// written without one.
func TestTTL(t *testing.T) {
	schema := store.Schema{
		{
			Name: "once", SingleUse: true, Indexes: []store.Index{store.On("e")},
			Expiry: &store.Expiry{Field: "e", After: time.Hour},
		},
		{Name: "again", Indexes: []store.Index{store.On("e")}, Expiry: &store.Expiry{Field: "e"}},
	}
	w := &wire{}
	s := openOn(t, w, schema)
	defer s.Close()
	once, again := store.Key{Collection: "once", ID: "a"}, store.Key{Collection: "again", ID: "a"}
	for data, want := range map[string]int{`{"e":1000000}`: 2, `{"e":"1970-01-12T13:46:40Z"}`: 2, `{"e":0}`: 0, `{}`: 0} {
		w.reset()
		commit(t, s, put(once, 1, data))
		const until = `{"N":"1090000"}` // 1,000,000, an hour, and a day
		if got := strings.Count(w.bodies[0], until); got != want {
			t.Errorf("%s: %d items expire, want %d", data, got, want)
		}
	}
	w.reset()
	commit(t, s, put(again, 1, `{"e":1000000}`))
	if strings.Contains(w.bodies[0], `":ttl"`) {
		t.Error("a document expires whose id may be used again, and leaves no mark")
	}
}

// A table that is away, or belongs to another function, is told apart.
func TestWrongTable(t *testing.T) {
	open(t, indexed).Close()
	other := tableOf(t)
	other.Function = "payments"
	none := tableOf(t)
	none.Table = "none"
	gone := tableOf(t).With(refusing{})
	for what, c := range map[string]struct {
		dynamodb.Config
		kind fault.Kind
		says string
	}{
		"another's": {other, fault.Internal, "belongs to the function test"},
		"none":      {none, fault.Unavailable, "no such DynamoDB table"},
		"away":      {gone, fault.Unavailable, "does not answer"},
	} {
		_, err := dynamodb.Open(context.Background(), c.Config, indexed)
		if !fault.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, os.ErrDeadlineExceeded }

// An address has a region and a table, or a region only; others are refused, and the error does not contain them.
func TestByURL(t *testing.T) {
	for _, address := range []string{
		"dynamodb://eu-central-1/shop-orders", "dynamodb://eu-central-1", "dynamodb://eu-central-1/",
	} {
		if _, err := dynamodb.ByURL(address); err != nil {
			t.Errorf("%s: got %v", address, err)
		}
	}
	for _, address := range []string{
		"", "dynamodb:", "dynamodb:x", "dynamodb:///t", "dynamodb://a:secret@r/t", "dynamodb://r/t/u", "dynamodb://r/t?x=1",
		"postgres://r/t", "dynamodb://%zz",
	} {
		if _, err := dynamodb.ByURL(address); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}
