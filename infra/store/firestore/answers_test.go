package firestore_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
)

// service is a fake Firestore without documents, whose errors a test defines.
type service struct {
	firestorepb.UnimplementedFirestoreServer
	mu     sync.Mutex
	asked  map[string]int
	answer func(method string, n int) error // to the nth call
	half   atomic.Bool                      // the first read of documents breaks after one of them
}

func (s *service) said(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[method]++
	if s.answer == nil {
		return nil
	}
	return s.answer(method, s.asked[method])
}

func (s *service) times(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[method]
}

func (s *service) BatchGetDocuments(
	r *firestorepb.BatchGetDocumentsRequest, stream firestorepb.Firestore_BatchGetDocumentsServer,
) error {
	if slices.ContainsFunc(r.Documents, func(name string) bool { return strings.Contains(name, "/schema.ebb/") }) {
		if err := s.said("Register"); err != nil {
			return err
		}
	} else if err := s.said("BatchGetDocuments"); err != nil {
		return err
	}
	for _, name := range r.Documents {
		missing := &firestorepb.BatchGetDocumentsResponse_Missing{Missing: name}
		if err := stream.Send(
			&firestorepb.BatchGetDocumentsResponse{Result: missing, ReadTime: timestamppb.Now()},
		); err != nil {
			return err
		}
		if s.half.Load() && s.times("BatchGetDocuments") == 1 {
			return status.Error(codes.Unavailable, "gone")
		}
	}
	return nil
}

func (s *service) RunQuery(*firestorepb.RunQueryRequest, firestorepb.Firestore_RunQueryServer) error {
	return s.said("RunQuery")
}

func (s *service) Commit(_ context.Context, r *firestorepb.CommitRequest) (*firestorepb.CommitResponse, error) {
	method := "Commit"
	if len(r.Writes) == 1 && strings.Contains(r.Writes[0].GetUpdate().GetName(), "/schema.ebb/") {
		method = "Register"
	} else if err := s.said(method); err != nil {
		return nil, err
	}
	results := make([]*firestorepb.WriteResult, len(r.Writes))
	for i := range results {
		results[i] = &firestorepb.WriteResult{UpdateTime: timestamppb.Now()}
	}
	return &firestorepb.CommitResponse{WriteResults: results, CommitTime: timestamppb.Now()}, nil
}

func (s *service) BeginTransaction(
	context.Context, *firestorepb.BeginTransactionRequest,
) (*firestorepb.BeginTransactionResponse, error) {
	return &firestorepb.BeginTransactionResponse{Transaction: []byte("t")}, s.said("BeginTransaction")
}

func (s *service) Rollback(context.Context, *firestorepb.RollbackRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// serve starts a service and opens a database there.
func serve(t *testing.T, answer func(method string, n int) error) (*service, *firestore.Store) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &service{asked: map[string]int{}, answer: answer}, grpc.NewServer()
	firestorepb.RegisterFirestoreServer(server, s)
	go func() { _ = server.Serve(l) }() // until it is stopped
	t.Cleanup(server.Stop)
	t.Setenv(emulatorHost, l.Addr().String())
	d, err := firestore.Open(t.Context(), firestore.Config{Project: "p", Database: "d"}, indexed)
	if err != nil {
		t.Fatal(err)
	}
	return s, closing(t, d)
}

// always answers each call of a method with a code.
func always(method string, code codes.Code, text string) func(string, int) error {
	return func(m string, _ int) error {
		if m != method {
			return nil
		}
		return status.Error(code, text)
	}
}

var blind = store.Batch{Mutations: []store.Mutation{put(thing("a"), 1, `{}`)}}

// Each error of Firestore becomes a fault with its kind and a message that tells what to do, without data of the
// caller.
func TestAnswers(t *testing.T) {
	for code, c := range map[codes.Code]struct {
		text string
		kind fault.Kind
		says string
	}{
		codes.NotFound:          {"The database d does not exist for project p", fault.Unavailable, "create it"},
		codes.PermissionDenied:  {"Missing or insufficient permissions.", fault.Unavailable, "roles/datastore.user"},
		codes.Unauthenticated:   {"Request had invalid authentication credentials.", fault.Unavailable, "service account"},
		codes.ResourceExhausted: {"Quota exceeded.", fault.Exhausted, "quota"},
		codes.FailedPrecondition: {
			"The query requires an index. You can create it here: https://", fault.Unavailable, "index of the query",
		},
		codes.InvalidArgument: {"no such thing", fault.Internal, ""},
		codes.OutOfRange:      {"what?", fault.Internal, ""},
	} {
		t.Run(code.String(), func(t *testing.T) {
			_, d := serve(t, always("RunQuery", code, c.text))
			_, _, err := d.Query(t.Context(), store.Query{Collection: "things", Limit: 1})
			shown := fault.Public(err)
			if !fault.Is(err, c.kind) || !strings.Contains(shown, c.says) || strings.Contains(shown, "p/databases") ||
				!strings.Contains(err.Error(), "projects/p/databases/d") {
				t.Errorf("got %v: %v", fault.KindOf(err), err)
			}
		})
	}
	for text, kind := range map[string]fault.Kind{
		"Request payload size exceeds the limit: 11534336 bytes.": fault.TooLarge,
		"maximum 500 writes allowed per request":                  fault.TooLarge, "what?": fault.Internal,
	} {
		_, d := serve(t, always("Commit", codes.InvalidArgument, text))
		if err := d.Commit(t.Context(), blind); !fault.Is(err, kind) {
			t.Errorf("%s: got %v: %v", text, fault.KindOf(err), err)
		}
	}
}

// A read without a response is retried, but not for ever.
func TestReadsAreRetried(t *testing.T) {
	get := func(d *firestore.Store) error {
		_, err := d.Get(t.Context(), thing("a"), thing("b"))
		return err
	}
	query := func(d *firestore.Store) error {
		_, _, err := d.Query(t.Context(), store.Query{Collection: "things", Limit: 1})
		return err
	}
	for method, call := range map[string]func(*firestore.Store) error{"BatchGetDocuments": get, "RunQuery": query} {
		_, d := serve(t, func(m string, n int) error {
			if m == method && n < 3 {
				return status.Error(codes.Unavailable, "try again")
			}
			return nil
		})
		if err := call(d); err != nil {
			t.Errorf("%s: got %v", method, err)
		}
	}
	s, d := serve(t, always("RunQuery", codes.Unavailable, "try again"))
	if err := query(d); !fault.Is(err, fault.Unavailable) || s.times("RunQuery") < 2 || s.times("RunQuery") > 10 {
		t.Errorf("got %v after %d calls", err, s.times("RunQuery"))
	}
}

// A commit that may have been applied is never sent again: it would look like a conflict with another commit.
func TestCommitIsSentOnce(t *testing.T) {
	for name, b := range map[string]store.Batch{
		"blind":       blind,
		"conditioned": {Preconditions: []store.Precondition{{Key: thing("a")}}, Mutations: blind.Mutations},
		"transaction": {Preconditions: []store.Precondition{{Key: other("a")}}, Mutations: blind.Mutations},
	} {
		s, d := serve(t, always("Commit", codes.Unavailable, "gone"))
		if err := d.Commit(t.Context(), b); !fault.Is(err, fault.Unavailable) || s.times("Commit") != 1 ||
			!strings.Contains(err.Error(), "not known") {
			t.Errorf("%s: got %v after %d commits", name, err, s.times("Commit"))
		}
	}
}

// A call that Firestore aborts too often because of contention fails with a conflict.
func TestContention(t *testing.T) {
	s, d := serve(t, always("Commit", codes.Aborted, "Too much contention on these documents. Please try again."))
	err := d.Commit(t.Context(), blind)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "one write of a document per second") ||
		s.times("Commit") < 3 || s.times("Commit") > 10 {
		t.Errorf("got %v after %d commits", err, s.times("Commit"))
	}
	_, d = serve(t, func(m string, n int) error {
		if m == "Commit" && n < 3 {
			return status.Error(codes.Aborted, "")
		}
		return nil
	})
	if err := d.Commit(t.Context(), blind); err != nil {
		t.Errorf("got %v", err)
	}
}

// A unit of work needs one read and one commit: documents read before need no transaction, and documents written no
// further read.
func TestUnitIsTwoCalls(t *testing.T) {
	needEmulator(t)
	var mu sync.Mutex
	calls := map[string]int{}
	count := func(method string) {
		mu.Lock()
		defer mu.Unlock()
		calls[method[strings.LastIndex(method, "/")+1:]]++
	}
	c := databaseOf(t).With(
		grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
			options ...grpc.CallOption,
		) error {
			count(method)
			return invoke(ctx, method, request, reply, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
			options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			count(method)
			return streamer(ctx, desc, conn, method, options...)
		}))
	d, err := firestore.Open(t.Context(), c, indexed)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, d)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	clear(calls)
	items := store.NewCollection[struct{ N int }]("things")
	for n := range 3 {
		err := store.Update(t.Context(), d, func(ctx context.Context, tx *store.Tx) error {
			v, err := items.GetMany(ctx, tx, "a", "b")
			if err != nil || v["a"].N != n || v["b"].N != n {
				t.Error(v, err)
			}
			for id, i := range map[string]int{"a": n + 1, "b": n + 1} {
				if err := items.Put(ctx, tx, id, struct{ N int }{i}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if calls["Commit"] != 3 || calls["BatchGetDocuments"] != 3 || len(calls) != 2 {
		t.Errorf("got %v", calls)
	}
}

// Open does not wait for a database that does not answer; Ready does.
func TestOpenDoesNotWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and sends nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv(emulatorHost, l.Addr().String())
	d, err := firestore.Open(t.Context(), firestore.Config{Project: "p", Database: "d"}, indexed)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Ready(ctx); !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v", err)
	}
}

// While a database cannot be used Ready and every call fail; when it can be used, they succeed.
func TestDatabaseAvailableLater(t *testing.T) {
	var mu sync.Mutex
	there := false
	_, d := serve(t, func(m string, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		if m == "Register" && !there {
			return status.Error(codes.NotFound, "The database d does not exist for project p")
		}
		return nil
	})
	_, get := d.Get(t.Context(), thing("a"))
	for what, err := range map[string]error{
		"ready": d.Ready(t.Context()), "get": get, "commit": d.Commit(t.Context(), blind),
	} {
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "create it") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	mu.Lock()
	there = true
	mu.Unlock()
	if err := d.Ready(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}

// A running instance of the version before writes documents without the keys of an index that it does not know. The new
// one finds them, and older documents too.
func TestOldAndNewTogether(t *testing.T) {
	needEmulator(t)
	defer firestore.SetLag(0)()
	before := store.Schema{{Name: "things", Indexes: []store.Index{store.On("n"), store.On("size")}}}
	after := store.Schema{{Name: "things", Indexes: []store.Index{store.On("kind", "n"), store.On("n")}}}
	older := closing(t, open(t, before))
	for _, id := range []string{"a", "b", "c"} {
		commit(t, older, put(thing(id), 1, `{"n":1,"kind":"x"}`))
	}
	newer := closing(t, open(t, after))
	find := func() (ids string) {
		docs, _, err := newer.Query(t.Context(), store.Query{Collection: "things", Limit: 10,
			Where: []store.Filter{{Field: "kind", Op: store.Equal, Value: "x"}}, Order: []store.Order{{Field: "n"}}})
		if err != nil {
			t.Error(err)
		}
		for _, d := range docs {
			ids += d.ID
		}
		return ids
	}
	if got := find(); got != "abc" {
		t.Errorf("of those that were there: got %s", got)
	}
	commit(t, older, put(thing("b"), 2, `{"n":0,"kind":"x"}`), put(thing("d"), 1, `{"n":2,"kind":"x"}`))
	if got := find(); got != "bacd" {
		t.Errorf("with those written since: got %s", got)
	}
	// An older instance that starts now writes the keys that the newer one needs.
	commit(t, closing(t, open(t, before)), put(thing("e"), 1, `{"n":3,"kind":"x"}`))
	defer firestore.SetLag(time.Hour)()
	if got := find(); got != "bacde" {
		t.Errorf("with those of an older one that started later: got %s", got)
	}
	// The newer one still writes keys that only the older one needs.
	commit(t, newer, put(thing("f"), 1, `{"size":7}`))
	docs, _, err := older.Query(t.Context(), store.Query{
		Collection: "things", Limit: 10, Where: []store.Filter{{Field: "size", Op: store.Equal, Value: int64(7)}},
	})
	if err != nil || len(docs) != 1 {
		t.Errorf("the older one finds %d, %v", len(docs), err)
	}
}

// The documents of several keys are of one consistent state, also when the connection breaks after some of them.
func TestSplitReads(t *testing.T) {
	s, d := serve(t, nil)
	s.half.Store(true)
	if _, err := d.Get(t.Context(), thing("a"), thing("b")); err != nil {
		t.Fatal(err)
	}
	if got := s.times("BatchGetDocuments"); got != 3 || s.times("BeginTransaction") != 1 {
		t.Errorf("got %d reads and %d transactions, want 2 and one more in a transaction", got, s.times("BeginTransaction"))
	}
}
