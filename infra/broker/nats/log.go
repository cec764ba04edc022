package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebb-dev/ebb/infra/broker/internal/codec"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// log is an eventlog.Log over three streams: the entries, the triggers, and the cursors with one
// message per trigger.
type log struct {
	cfg     Config
	server  *server.Server // nil: outside
	nc      *nats.Conn
	js      jetstream.JetStream
	events  jetstream.Stream
	cursors jetstream.Stream
	known   jetstream.Stream // the triggers, each with the cursor it began at
	buf     []byte
	recent  *recent
	synced  synced
}

var _ eventlog.Log = (*log)(nil)

func (l *log) subject() string               { return l.cfg.Stream + ".events" }
func (l *log) wakeSubject() string           { return l.cfg.Stream + "-wake" }
func (l *log) cursorsStream() string         { return l.cfg.Stream + "-places" }
func (l *log) cursorSubject(t string) string { return l.cfg.Stream + "-places." + t }
func (l *log) knownSubject(t string) string  { return l.cfg.Stream + "-triggers." + t }
func (l *log) triggerOf(subject string) string {
	return strings.TrimPrefix(subject, l.knownSubject(""))
}

func (l *log) makeStreams(ctx context.Context) (err error) {
	l.events, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: l.cfg.Stream, Subjects: []string{l.subject()}, Storage: jetstream.FileStorage,
		Replicas: l.cfg.Replicas, AllowDirect: true, MaxMsgSize: -1,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", l.cfg.Stream, err)
	}
	if err = l.makeCursors(ctx); err != nil {
		return fmt.Errorf("stream %s: %w", l.cursorsStream(), err)
	}
	l.known, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: l.cfg.Stream + "-triggers", Subjects: []string{l.knownSubject(">")}, Storage: jetstream.FileStorage,
		Replicas: l.cfg.Replicas, AllowDirect: true, MaxMsgsPerSubject: 1,
	})
	if err != nil {
		return fmt.Errorf("stream %s-triggers: %w", l.cfg.Stream, err)
	}
	return nil
}

// makeCursors makes the stream of the cursors. On the embedded server it is persisted
// asynchronously: a cursor that is lost costs only deliveries that come again, so that it is
// not worth an fsync. The client has no field for that, hence the raw request.
func (l *log) makeCursors(ctx context.Context) (err error) {
	l.cursors, err = l.js.Stream(ctx, l.cursorsStream())
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	cfg := map[string]any{
		"name": l.cursorsStream(), "subjects": []string{l.cursorSubject(">")}, "storage": "file",
		"retention": "limits", "discard": "old", "num_replicas": l.cfg.Replicas, "max_msgs_per_subject": 1,
		"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "allow_direct": true,
	}
	if l.server != nil {
		cfg["persist_mode"] = "async"
	}
	body, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	reply, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.CREATE."+l.cursorsStream(), body)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	l.cursors, err = l.js.Stream(ctx, l.cursorsStream())
	return err
}

// Append implements eventlog.Log.
func (l *log) Append(ctx context.Context, events []event.Event) (uint64, error) {
	var err error
	if l.buf, err = codec.Append(l.buf[:0], events); err != nil {
		return 0, err
	}
	ack, err := l.js.Publish(ctx, l.subject(), l.buf)
	if err != nil {
		return 0, err
	}
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	l.recent.add(eventlog.Entry{Pos: ack.Sequence, Events: events}, int(len(l.buf)))
	return ack.Sequence, nil
}

// Sync implements eventlog.Syncer. Only an embedded server's log is asked to.
func (l *log) Sync(context.Context) error {
	return l.synced.sync(filepath.Join(l.streamDir(l.cfg.Stream), "msgs"))
}

// Read implements eventlog.Log. What this process has appended lately comes from memory.
func (l *log) Read(ctx context.Context, from uint64, limit int) ([]eventlog.Entry, error) {
	if entries, ok := l.recent.read(from, limit, l.server != nil); ok {
		return entries, nil
	}
	return l.fetch(ctx, from, limit)
}

// fetchBytes bounds what one read brings into memory.
const fetchBytes = 4 << 20

// fetch asks the stream for several messages at once, without a consumer: it keeps no state there.
func (l *log) fetch(ctx context.Context, from uint64, limit int) (entries []eventlog.Entry, err error) {
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	request, err := json.Marshal(map[string]any{"seq": from, "batch": limit, "max_bytes": fetchBytes})
	if err != nil {
		return nil, err
	}
	if err = l.nc.PublishRequest("$JS.API.DIRECT.GET."+l.cfg.Stream, inbox, request); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case strconv.Itoa(http.StatusNoContent), strconv.Itoa(http.StatusNotFound): // the end of the batch; nothing there
			return entries, nil
		default:
			return nil, fmt.Errorf("reading the stream: %s %s", status, msg.Header.Get("Description"))
		}
		e, err := decode(msg)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

func decode(msg *nats.Msg) (e eventlog.Entry, err error) {
	if e.Pos, err = strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64); err != nil {
		return e, fmt.Errorf("a message without a sequence: %w", err)
	}
	if e.Events, err = codec.Decode(msg.Data); err != nil {
		return e, fmt.Errorf("message %d of the stream cannot be read: %w", e.Pos, err)
	}
	return e, nil
}

// End implements eventlog.Log.
func (l *log) End(ctx context.Context) (uint64, error) {
	info, err := l.events.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq + 1, nil
}

// Trim implements eventlog.Log.
func (l *log) Trim(ctx context.Context, before uint64) error {
	return l.events.Purge(ctx, jetstream.WithPurgeSequence(before))
}

// Cursors implements eventlog.Log.
func (l *log) Cursors(ctx context.Context) (map[string][]byte, error) {
	info, err := l.known.Info(ctx, jetstream.WithSubjectFilter(l.knownSubject(">")))
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		trigger := l.triggerOf(subject)
		b, err := l.LoadCursor(ctx, trigger)
		if err != nil {
			return nil, err
		}
		if b != nil {
			out[trigger] = b
		}
	}
	return out, nil
}

// LoadCursor implements eventlog.Log. It returns the one that the trigger began at when none was saved, or it is lost.
func (l *log) LoadCursor(ctx context.Context, trigger string) ([]byte, error) {
	b, err := last(ctx, l.cursors, l.cursorSubject(trigger))
	if b == nil && err == nil {
		b, err = last(ctx, l.known, l.knownSubject(trigger))
	}
	return b, err
}

// last returns the last message of a subject; nil when there is none.
func last(ctx context.Context, s jetstream.Stream, subject string) ([]byte, error) {
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

// CreateCursor implements eventlog.Log. Unlike a cursor that is saved later, this one must not be
// lost: the trigger would begin anew, after events that it was promised.
func (l *log) CreateCursor(ctx context.Context, trigger string, cursor []byte) error {
	_, err := l.js.Publish(ctx, l.knownSubject(trigger), cursor, jetstream.WithExpectLastSequencePerSubject(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	if err != nil || l.server == nil || l.cfg.SyncInterval == 0 {
		return err
	}
	return syncTree(l.streamDir(l.cfg.Stream + "-triggers"))
}

// streamDir returns the folder in which the embedded server keeps a stream.
func (l *log) streamDir(stream string) string {
	return filepath.Join(l.cfg.Dir, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream)
}

// SaveCursors implements eventlog.Log.
func (l *log) SaveCursors(ctx context.Context, cursors map[string][]byte) error {
	var acks []jetstream.PubAckFuture
	for trigger, cursor := range cursors {
		ack, err := l.js.PublishAsync(l.cursorSubject(trigger), cursor)
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// DropCursor implements eventlog.Log.
func (l *log) DropCursor(ctx context.Context, trigger string) error {
	if err := l.cursors.Purge(ctx, jetstream.WithPurgeSubject(l.cursorSubject(trigger))); err != nil {
		return err
	}
	return l.known.Purge(ctx, jetstream.WithPurgeSubject(l.knownSubject(trigger)))
}

// Close implements eventlog.Log.
func (l *log) Close() error {
	if l.nc != nil {
		l.nc.Close()
	}
	if l.server != nil {
		l.server.Shutdown()
		l.server.WaitForShutdown()
	}
	return nil
}

// recent holds what this process has appended lately, so that it need not be read back and
// decoded. It holds a run of consecutive positions; another process's entry ends a run.
type recent struct {
	mu      sync.Mutex
	entries []eventlog.Entry
	sizes   []int
	bytes   int
}

// recentBytes bounds what is held, as encoded.
const recentBytes = 2 << 20

func newRecent() *recent { return &recent{} }

func (r *recent) add(e eventlog.Entry, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.entries); n > 0 && r.entries[n-1].Pos+1 != e.Pos {
		r.entries, r.sizes, r.bytes = nil, nil, 0
	}
	r.entries, r.sizes, r.bytes = append(r.entries, e), append(r.sizes, size), r.bytes+size
	for r.bytes > recentBytes && len(r.entries) > 1 {
		r.bytes -= r.sizes[0]
		r.entries[0] = eventlog.Entry{}
		r.entries, r.sizes = r.entries[1:], r.sizes[1:]
	}
}

// read answers from memory when from is in the run. That nothing is there yet behind the run
// it knows only when no other process appends, as to an embedded server.
func (r *recent) read(from uint64, limit int, alone bool) ([]eventlog.Entry, bool) {
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
	return append([]eventlog.Entry(nil), r.entries[i:end]...), true
}
