package firestore_test

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
)

// Firestore makes a commit visible atomically. The emulator (of the Cloud SDK 2025) does it document by document: for
// some milliseconds reads return a part of it, even in a read-only transaction. So in these tests no read reaches the
// emulator during a commit, and no commit during a read. Calls of the driver still run concurrently, and their messages
// interleave.
var whole = []grpc.DialOption{grpc.WithChainUnaryInterceptor(wholeCommit), grpc.WithChainStreamInterceptor(wholeRead)}

// rooms allows concurrent commits and concurrent reads, but never a commit beside a read.
var rooms = struct {
	sync.Mutex
	*sync.Cond
	commits, reads int
}{}

func init() { rooms.Cond = sync.NewCond(&rooms.Mutex) }

func enter(mine, others *int) (leave func()) {
	rooms.Lock()
	defer rooms.Unlock()
	for *others > 0 {
		rooms.Wait()
	}
	*mine++
	return sync.OnceFunc(func() {
		rooms.Lock()
		defer rooms.Unlock()
		*mine--
		rooms.Broadcast()
	})
}

func wholeCommit(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	if strings.HasSuffix(method, "/Commit") {
		defer enter(&rooms.commits, &rooms.reads)()
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

func wholeRead(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	leave := enter(&rooms.reads, &rooms.commits)
	stream, err := streamer(ctx, desc, conn, method, options...)
	if err != nil {
		leave()
		return nil, err
	}
	context.AfterFunc(stream.Context(), leave)
	return &wholeStream{stream, leave}, nil
}

type wholeStream struct {
	grpc.ClientStream
	leave func()
}

func (s *wholeStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.leave()
	}
	return err
}
