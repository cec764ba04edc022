package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/broker/internal/codec"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// log implements eventlog.Log. The entry at a position has the id 0-POSITION in the stream. All keys have the broker's
// name in braces, so that they lie in one slot of a cluster.
type log struct {
	cfg    Config
	client *redis.Client
	buf    []byte
	recent eventlog.Recent
	append *redis.Script

	mu   sync.Mutex
	stop func() // ends what Notify has begun; nil: nothing
}

var (
	_ eventlog.Log      = (*log)(nil)
	_ eventlog.Ager     = (*log)(nil)
	_ eventlog.Leaser   = (*log)(nil)
	_ eventlog.Notifier = (*log)(nil)
	_ eventlog.Jumper   = (*log)(nil)
)

func newLog(cfg Config, client *redis.Client) *log {
	l := &log{cfg: cfg, client: client}
	// The name in the text makes it a script of this stream's own: see Append.
	l.append = redis.NewScript("-- " + cfg.Name + "\n" + appendSource)
	return l
}

func (l *log) key(name string) string    { return "{" + l.cfg.Name + "}:" + name }
func (l *log) events() string            { return l.key("events") }
func (l *log) cursors() string           { return l.key("cursors") }
func (l *log) saved() string             { return l.key("saved") }
func (l *log) attempts() string          { return l.key("attempts") }
func (l *log) wake() string              { return l.key("wake") }
func (l *log) jumps() string             { return l.key("jumps") }
func (l *log) lease(t string) string     { return l.key("lease:" + t) }
func id(pos uint64) string               { return "0-" + strconv.FormatUint(pos, 10) }
func field(values map[string]any) []byte { s, _ := values[eventsField].(string); return []byte(s) }

// eventsField is the one field of an entry: a group of events in the format of package codec.
const eventsField = "e"

// The scripts. A server forgets all of them when it stops.
var (
	//go:embed append.lua
	appendSource string
	//go:embed jump.lua
	jumpSource string
	//go:embed renew.lua
	renewSource string
	//go:embed release.lua
	releaseSource string

	jumpScript    = redis.NewScript(jumpSource)
	renewScript   = redis.NewScript(renewSource)
	releaseScript = redis.NewScript(releaseSource)
)

// Append implements eventlog.Log. A server that was started again, or a replica that took over, may have lost the last
// entries, which triggers have passed. It has forgotten the script then, and the next entry jumps to a position behind
// all that were given before; only after that the script is there again for every process.
func (l *log) Append(ctx context.Context, events []event.Event) (uint64, error) {
	var err error
	if l.buf, err = codec.Append(l.buf[:0], events); err != nil {
		return 0, err
	}
	keys := []string{l.events(), l.wake()}
	text, err := l.append.EvalSha(ctx, l.client, keys, l.buf).Text()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if text, err = jumpScript.Eval(ctx, l.client, append(keys, l.jumps()), l.buf).Text(); err == nil {
			l.append.Load(ctx, l.client) // else the next entry jumps again
		}
	}
	if err != nil {
		return 0, err
	}
	pos, err := position(text)
	if err != nil {
		return 0, err
	}
	l.recent.Add(eventlog.Entry{Pos: pos, Events: events}, len(l.buf))
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	return pos, nil
}

func position(id string) (uint64, error) {
	first, text, _ := strings.Cut(id, "-")
	pos, err := strconv.ParseUint(text, 10, 64)
	if err != nil || first != "0" {
		return 0, fmt.Errorf("invalid id %q of an entry: want 0-POSITION; something else writes to the stream", id)
	}
	return pos, nil
}

// Read implements eventlog.Log. It returns entries that this process appended recently from memory.
func (l *log) Read(ctx context.Context, from uint64, limit int) ([]eventlog.Entry, error) {
	if entries, ok := l.recent.Read(from, limit, false); ok {
		return entries, nil
	}
	messages, err := l.client.XRangeN(ctx, l.events(), id(from), "+", int64(limit)).Result()
	if err != nil {
		return nil, err
	}
	entries := make([]eventlog.Entry, 0, len(messages))
	for _, m := range messages {
		pos, err := position(m.ID)
		if err != nil {
			return nil, err
		}
		e := eventlog.Entry{Pos: pos}
		if e.Events, err = codec.Decode(field(m.Values)); err != nil {
			// No broker has written it, and no trigger can get past an error.
			l.cfg.Logger.Error("an entry of the stream is no event and is passed over", "stream", l.events(), "id", m.ID,
				"error", err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// End implements eventlog.Log.
func (l *log) End(ctx context.Context) (uint64, error) {
	info, err := l.client.XInfoStream(ctx, l.events()).Result()
	if redis.HasErrorPrefix(err, "no such key") {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	pos, err := position(info.LastGeneratedID)
	return pos + 1, err
}

// Jumps implements eventlog.Jumper. One that cannot be read only makes a lag look larger.
func (l *log) Jumps(ctx context.Context) (gaps []eventlog.Gap, err error) {
	texts, err := l.client.LRange(ctx, l.jumps(), 0, -1).Result()
	for _, text := range texts {
		first, last, _ := strings.Cut(text, "-")
		from, wrong := strconv.ParseUint(first, 10, 64)
		to, wrongToo := strconv.ParseUint(last, 10, 64)
		if wrong == nil && wrongToo == nil && from < to {
			gaps = append(gaps, eventlog.Gap{From: from, To: to})
		}
	}
	return gaps, err
}

// Trim implements eventlog.Log.
func (l *log) Trim(ctx context.Context, before uint64) error {
	return l.client.XTrimMinIDApprox(ctx, l.events(), id(before), 0).Err()
}

// Cursors implements eventlog.Log.
func (l *log) Cursors(ctx context.Context) (map[string][]byte, error) {
	found, err := l.client.HGetAll(ctx, l.cursors()).Result()
	out := make(map[string][]byte, len(found))
	for trigger, cursor := range found {
		out[trigger] = []byte(cursor)
	}
	return out, err
}

// CursorTimes implements eventlog.Ager.
func (l *log) CursorTimes(ctx context.Context) (map[string]time.Time, error) {
	found, err := l.client.HGetAll(ctx, l.saved()).Result()
	out := make(map[string]time.Time, len(found))
	for trigger, text := range found {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("invalid time %q of the cursor of %q", text, trigger)
		}
		out[trigger] = time.Unix(seconds, 0)
	}
	return out, err
}

// LoadCursor implements eventlog.Log.
func (l *log) LoadCursor(ctx context.Context, trigger string) ([]byte, error) {
	return l.load(ctx, l.cursors(), trigger)
}

// load returns a field of a hash; nil: there is none.
func (l *log) load(ctx context.Context, key, field string) ([]byte, error) {
	b, err := l.client.HGet(ctx, key, field).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return b, err
}

// CreateCursor implements eventlog.Log.
func (l *log) CreateCursor(ctx context.Context, trigger string, cursor []byte) error {
	_, err := l.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSetNX(ctx, l.cursors(), trigger, cursor)
		p.HSetNX(ctx, l.saved(), trigger, time.Now().Unix())
		return nil
	})
	return err
}

// SaveCursors implements eventlog.Log. A server that has lost them gets them again.
func (l *log) SaveCursors(ctx context.Context, cursors map[string][]byte) error {
	fields, times, now := make([]any, 0, 2*len(cursors)), make([]any, 0, 2*len(cursors)), time.Now().Unix()
	for trigger, cursor := range cursors {
		fields, times = append(fields, trigger, cursor), append(times, trigger, now)
	}
	_, err := l.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, l.cursors(), fields...)
		p.HSet(ctx, l.saved(), times...)
		return nil
	})
	return err
}

// LoadAttempts implements eventlog.Log.
func (l *log) LoadAttempts(ctx context.Context, trigger string) ([]byte, error) {
	return l.load(ctx, l.attempts(), trigger)
}

// SaveAttempts implements eventlog.Log.
func (l *log) SaveAttempts(ctx context.Context, trigger string, attempts []byte) error {
	return l.client.HSet(ctx, l.attempts(), trigger, attempts).Err()
}

// DropCursor implements eventlog.Log.
func (l *log) DropCursor(ctx context.Context, trigger string) error {
	_, err := l.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range []string{l.cursors(), l.saved(), l.attempts()} {
			p.HDel(ctx, key, trigger)
		}
		return nil
	})
	return err
}

// pollEvery limits the delay after a lost notification.
const pollEvery = 500 * time.Millisecond

// Notify implements eventlog.Notifier.
func (l *log) Notify(wake func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = func() { cancel(); <-ended }
	subscription := l.client.Subscribe(ctx, l.wake()) // the client subscribes again after a lost connection
	go func() {
		defer close(ended)
		defer subscription.Close()
		ticker := time.NewTicker(pollEvery)
		defer ticker.Stop()
		grown := subscription.Channel()
		for {
			select {
			case <-grown:
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			wake()
		}
	}()
}

// Close implements eventlog.Log.
func (l *log) Close() error {
	l.mu.Lock()
	stop := l.stop
	l.stop = nil
	l.mu.Unlock()
	if stop != nil {
		stop()
	}
	return l.client.Close()
}
