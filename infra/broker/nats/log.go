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
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ebb-dev/ebb/infra/broker/internal/codec"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// log implements eventlog.Log with four streams: the entries, the triggers, and the cursors and the attempts with one
// message per trigger.
type log struct {
	cfg      Config
	server   Server // nil: an external cluster
	nc       *nats.Conn
	js       jetstream.JetStream
	events   jetstream.Stream
	cursors  jetstream.Stream
	triggers jetstream.Stream // the triggers, each with its first cursor
	attempts jetstream.Stream
	buf      []byte
	recent   eventlog.Recent
	syncer   syncer
}

var (
	_ eventlog.Log  = (*log)(nil)
	_ eventlog.Ager = (*log)(nil)
)

// globalAccount is the account of the embedded server, which names a folder of its files.
const globalAccount = "$G"

func (l *log) subject() string                { return l.cfg.Stream + ".events" }
func (l *log) wakeSubject() string            { return l.cfg.Stream + "-wake" }
func (l *log) cursorsStream() string          { return l.cfg.Stream + "-places" }
func (l *log) cursorSubject(t string) string  { return l.cfg.Stream + "-places." + t }
func (l *log) triggerSubject(t string) string { return l.cfg.Stream + "-triggers." + t }
func (l *log) attemptsSubject(t string) string {
	return l.cfg.Stream + "-attempts." + t
}
func (l *log) triggerOf(subject string) string {
	return strings.TrimPrefix(subject, l.triggerSubject(""))
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
	l.triggers, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: l.cfg.Stream + "-triggers", Subjects: []string{l.triggerSubject(">")}, Storage: jetstream.FileStorage,
		Replicas: l.cfg.Replicas, AllowDirect: true, MaxMsgsPerSubject: 1,
	})
	if err != nil {
		return fmt.Errorf("stream %s-triggers: %w", l.cfg.Stream, err)
	}
	l.attempts, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: l.cfg.Stream + "-attempts", Subjects: []string{l.attemptsSubject(">")}, Storage: jetstream.FileStorage,
		Replicas: l.cfg.Replicas, AllowDirect: true, MaxMsgsPerSubject: 1,
	})
	if err != nil {
		return fmt.Errorf("stream %s-attempts: %w", l.cfg.Stream, err)
	}
	return nil
}

// makeCursors makes the stream of the cursors. The embedded server persists it asynchronously: after the loss of a
// cursor some events are delivered again, which does not justify an fsync. The client has no field for this setting,
// so makeCursors sends a raw request.
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
	ack, err := l.publish(ctx, l.buf)
	if err != nil {
		return 0, err
	}
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	l.recent.Add(eventlog.Entry{Pos: ack.Sequence, Events: events}, len(l.buf))
	return ack.Sequence, nil
}

// publishTimeout is how long a cluster may take to acknowledge an entry before it is sent again. When the server that
// leads the stream dies, no server answers what was sent to it.
const publishTimeout = 2 * time.Second

// publish appends an entry. To a cluster it is sent again until it is acknowledged or ctx ends; the server knows the
// entry by its id.
func (l *log) publish(ctx context.Context, entry []byte) (*jetstream.PubAck, error) {
	if l.server != nil {
		return l.js.Publish(ctx, l.subject(), entry)
	}
	id := jetstream.WithMsgID(nuid.Next())
	for {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		ack, err := l.js.Publish(attempt, l.subject(), entry, id)
		unanswered := attempt.Err() != nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse)
		cancel()
		if err == nil || !unanswered || ctx.Err() != nil {
			return ack, err
		}
	}
}

// Sync implements eventlog.Syncer. It is called for an embedded server only.
func (l *log) Sync(context.Context) error {
	return l.syncer.sync(filepath.Join(l.streamDir(l.cfg.Stream), "msgs"))
}

// Read implements eventlog.Log. It returns entries that this process appended recently from memory.
func (l *log) Read(ctx context.Context, from uint64, limit int) ([]eventlog.Entry, error) {
	if entries, ok := l.recent.Read(from, limit, l.server != nil); ok {
		return entries, nil
	}
	return l.fetch(ctx, from, limit)
}

// readTimeout limits one read. The server of a cluster that had the request may be gone.
const readTimeout = 4 * time.Second

// fetchBytes limits the size of one read.
const fetchBytes = 4 << 20

// fetch reads several messages of the stream with one request. It uses no consumer, so the server keeps no state.
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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case strconv.Itoa(http.StatusNoContent), strconv.Itoa(http.StatusNotFound): // end of the batch; no messages
			return entries, nil
		default:
			return nil, fmt.Errorf("read the stream: %s %s", status, msg.Header.Get("Description"))
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
		return e, fmt.Errorf("invalid sequence of a message: %w", err)
	}
	if e.Events, err = codec.Decode(msg.Data); err != nil {
		return e, fmt.Errorf("decode message %d of the stream: %w", e.Pos, err)
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
	out := map[string][]byte{}
	err := l.eachCursor(ctx, func(trigger string, m *jetstream.RawStreamMsg) { out[trigger] = m.Data })
	return out, err
}

// CursorTimes implements eventlog.Ager. The server says when each cursor was saved.
func (l *log) CursorTimes(ctx context.Context) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	err := l.eachCursor(ctx, func(trigger string, m *jetstream.RawStreamMsg) { out[trigger] = m.Time })
	return out, err
}

// eachCursor calls f with the cursor of each trigger.
func (l *log) eachCursor(ctx context.Context, f func(trigger string, m *jetstream.RawStreamMsg)) error {
	info, err := l.triggers.Info(ctx, jetstream.WithSubjectFilter(l.triggerSubject(">")))
	if err != nil {
		return err
	}
	for subject := range info.State.Subjects {
		trigger := l.triggerOf(subject)
		m, err := l.loadCursor(ctx, trigger)
		if err != nil {
			return err
		}
		if m != nil {
			f(trigger, m)
		}
	}
	return nil
}

// LoadCursor implements eventlog.Log. It returns the trigger's first cursor when no later one was saved, or when that
// was lost.
func (l *log) LoadCursor(ctx context.Context, trigger string) ([]byte, error) {
	m, err := l.loadCursor(ctx, trigger)
	if m == nil {
		return nil, err
	}
	return m.Data, err
}

func (l *log) loadCursor(ctx context.Context, trigger string) (*jetstream.RawStreamMsg, error) {
	m, err := last(ctx, l.cursors, l.cursorSubject(trigger))
	if m == nil && err == nil {
		m, err = last(ctx, l.triggers, l.triggerSubject(trigger))
	}
	return m, err
}

// last returns the last message of a subject, or nil when the subject has no messages.
func last(ctx context.Context, s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// CreateCursor implements eventlog.Log. Unlike later cursors, the first one must not be lost: the trigger would start
// again at the end of the log and miss events.
func (l *log) CreateCursor(ctx context.Context, trigger string, cursor []byte) error {
	_, err := l.js.Publish(ctx, l.triggerSubject(trigger), cursor, jetstream.WithExpectLastSequencePerSubject(0))
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
	return filepath.Join(l.cfg.Dir, "jetstream", globalAccount, "streams", stream)
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

// LoadAttempts implements eventlog.Log.
func (l *log) LoadAttempts(ctx context.Context, trigger string) ([]byte, error) {
	m, err := last(ctx, l.attempts, l.attemptsSubject(trigger))
	if m == nil {
		return nil, err
	}
	return m.Data, err
}

// SaveAttempts implements eventlog.Log. The server has written them to their file when it acknowledges them.
func (l *log) SaveAttempts(ctx context.Context, trigger string, attempts []byte) error {
	_, err := l.js.Publish(ctx, l.attemptsSubject(trigger), attempts)
	return err
}

// DropCursor implements eventlog.Log.
func (l *log) DropCursor(ctx context.Context, trigger string) error {
	if err := l.attempts.Purge(ctx, jetstream.WithPurgeSubject(l.attemptsSubject(trigger))); err != nil {
		return err
	}
	if err := l.cursors.Purge(ctx, jetstream.WithPurgeSubject(l.cursorSubject(trigger))); err != nil {
		return err
	}
	return l.triggers.Purge(ctx, jetstream.WithPurgeSubject(l.triggerSubject(trigger)))
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
