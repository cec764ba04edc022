package sns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

const (
	// maxMessage is the most bytes of a message with its attributes that SNS and SQS take.
	maxMessage = 256 << 10

	// maxAttribute is the most bytes of a value that becomes a message attribute; a longer one is not one.
	maxAttribute = 1024

	// maxGroup is the most characters of a message group.
	maxGroup = 128
)

// message is an event as SNS takes it.
type message struct {
	body       string
	key        string // the event's partition key; "": none
	group      string
	dedup      string
	attributes [][2]string // names and values
	size       int         // in bytes, as SNS counts
	claim      *claim      // of an event that is too large; it is stored before the message is published
}

// claim is the data of an event that is stored in the store of blobs.
type claim struct {
	key string
	blob.Blob
}

// filtered are the attributes of an event that subscriptions can filter by.
var filtered = []string{"type", "source", "subject", event.ReplayTo}

// encode returns the event as a message. With a store of blobs, the data of an event goes there that is too large
// otherwise.
func encode(e *ce.Event, blobs *blob.Store) (message, error) {
	m, err := encodeWhole(e)
	switch {
	case err != nil:
		return m, err
	case m.size <= maxMessage:
		return m, nil
	case blobs == nil:
		return m, fault.New(fault.Invalid, "event %q has %d bytes in JSON, SNS takes %d; larger ones need a store of blobs "+
			"(blobs=s3://BUCKET)", e.ID(), m.size, maxMessage)
	case len(e.DataEncoded) == 0:
		return m, fault.New(fault.Invalid, "event %q has %d bytes of attributes, SNS takes %d", e.ID(), m.size, maxMessage)
	}
	sum := sha256.Sum256(e.DataEncoded)
	stored := claim{claims + hex.EncodeToString(sum[:]), blob.Blob{Type: e.DataContentType(), Data: e.DataEncoded}}
	reference := withExtension(*e, dataRef, blobs.URI(stored.key))
	reference.DataEncoded, reference.DataBase64 = nil, false
	if m, err = encodeWhole(&reference); err != nil {
		return m, err
	}
	if m.size > maxMessage {
		return m, fault.New(fault.Invalid, "event %q has %d bytes of attributes, SNS takes %d", e.ID(), m.size, maxMessage)
	}
	m.claim = &stored
	return m, nil
}

func encodeWhole(e *ce.Event) (message, error) {
	body, err := event.ToJSON(*e)
	if err != nil {
		return message{}, fault.Wrap(err, fault.Invalid, "event %q has no JSON form", e.ID())
	}
	body = plain(body)
	m := message{body: string(body), key: delivery.PartitionKey(e), dedup: delivery.Identity(e), size: len(body)}
	m.group = group(m.key, m.dedup)
	for _, name := range filtered {
		value := ""
		switch name {
		case "type":
			value = e.Type()
		case "source":
			value = e.Source()
		case "subject":
			value = e.Subject()
		default:
			value = event.Extension(*e, name)
		}
		if value != "" && len(value) <= maxAttribute && isPlain(value) {
			m.attributes = append(m.attributes, [2]string{name, value})
			m.size += len(name) + len("String") + len(value)
		}
	}
	return m, nil
}

// The two characters of JSON that messages of SNS and SQS may not have. Both stand in texts of JSON only, where they
// can be escaped.
var unplain = []struct{ char, escaped []byte }{
	{[]byte("\ufffe"), []byte(`\ufffe`)}, {[]byte("\uffff"), []byte(`\uffff`)},
}

func plain(body []byte) []byte {
	for _, u := range unplain {
		body = bytes.ReplaceAll(body, u.char, u.escaped)
	}
	return body
}

// isPlain reports whether a text may be a message attribute.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= '\ufffd' && r <= '\uffff' })
}

// group returns the message group of a partition key: the key behind "key:", or its hash when SNS does not take it. An
// event without a key has a group of its own.
func group(key, identity string) string {
	switch {
	case key == "":
		return identity
	case len("key:"+key) > maxGroup || strings.IndexFunc(key, notGroup) >= 0:
		sum := sha256.Sum256([]byte(key))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return "key:" + key
}

// notGroup reports whether a character may not be in a message group: it takes the letters, digits and punctuation of
// ASCII.
func notGroup(r rune) bool { return r <= ' ' || r > '~' }

const (
	// claims is the beginning of the keys of blobs that are data of events.
	claims = "claims/"

	// dataRef is the extension of CloudEvents that says where the data is, when it is not in the event.
	dataRef = "dataref"
)

// A Gone error says that the data of an event is not there any more, and has the event without it.
type Gone struct {
	Event ce.Event
	Cause string
}

// Error implements error.
func (g *Gone) Error() string { return g.Cause }

// Refused returns the event, and the answer to its delivery: it has failed for good.
func (g *Gone) Refused() (ce.Event, broker.Result) {
	return g.Event, broker.Result{Status: http.StatusGone, Message: g.Cause}
}

// Decode returns the event of a message's body, with its data: as Read does, and then what it returns.
func Decode(ctx context.Context, body []byte, blobs *blob.Store) (ce.Event, error) {
	e, load, err := Read(body, blobs)
	if err != nil || load == nil {
		return e, err
	}
	return load(ctx)
}

// Read returns the event of a message's body: a CloudEvent in JSON, or the notification of SNS that has one. Where the
// data of the event is in the store of blobs, it returns the attributes, and load, which returns the event with its
// data; nil: it is complete. blobs is nil where there is no store.
//
// The error of Read is fault.Invalid: the body is no CloudEvent. That of load is *Gone when the data does not exist or
// is not what was stored, and of another kind when the store does not respond.
func Read(body []byte, blobs *blob.Store) (e ce.Event, load func(context.Context) (ce.Event, error), err error) {
	var around struct {
		Message *string `json:"Message"`
		Version string  `json:"specversion"`
	}
	if err := json.Unmarshal(body, &around); err != nil {
		return e, nil, fault.Wrap(err, fault.Invalid, "the message is no CloudEvent: it is not a JSON object")
	}
	if around.Version == "" && around.Message != nil {
		body = []byte(*around.Message)
	}
	e, err = event.FromJSON(body)
	if err == nil {
		err = event.CheckAttributes(e)
	}
	if err != nil {
		return ce.Event{}, nil, fault.Wrap(err, fault.Invalid, "the message is no CloudEvent: %.200v", err)
	}
	ref := event.Extension(e, dataRef)
	hash := ref[strings.LastIndexByte(ref, '/')+1:]
	if !strings.HasSuffix(ref, "/"+claims+hash) || len(hash) != 2*sha256.Size || len(e.DataEncoded) > 0 {
		return e, nil, nil // another dataref is the publisher's own
	}
	bare := withoutExtension(e, dataRef)
	return bare, func(ctx context.Context) (ce.Event, error) { return resolve(ctx, bare, ref, hash, blobs) }, nil
}

// resolve returns the event with its data, which is at ref and has the hash.
func resolve(ctx context.Context, bare ce.Event, ref, hash string, blobs *blob.Store) (ce.Event, error) {
	key := claims + hash
	if blobs == nil {
		return bare, &Gone{bare, "the data of the event is at " + ref + ", and this function has no store of blobs"}
	}
	if ref != blobs.URI(key) {
		return bare, &Gone{bare, "the data of the event is at " + ref + ", which is not this function's store of blobs"}
	}
	b, err := blobs.Get(ctx, key)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.TooLarge), fault.Is(err, fault.Invalid):
		return bare, &Gone{bare, "the data of the event cannot be had: " + fault.Public(err)}
	case err != nil:
		return bare, err
	}
	if sum := sha256.Sum256(b.Data); hex.EncodeToString(sum[:]) != hash {
		return bare, &Gone{bare, "the data of the event at " + ref + " is not what was stored there"}
	}
	whole := bare
	whole.DataEncoded, whole.DataBase64 = b.Data, !isText(bare.DataContentType())
	return whole, nil
}

// isText reports whether data of the media type is written as text in JSON.
func isText(mediaType string) bool {
	media, _, _ := mime.ParseMediaType(mediaType)
	return strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "json") || strings.HasSuffix(media, "xml")
}

func withExtension(e ce.Event, name string, value any) ce.Event {
	c := *e.Context.AsV1()
	c.Extensions = maps.Clone(c.Extensions)
	if c.Extensions == nil {
		c.Extensions = map[string]any{}
	}
	c.Extensions[name] = value
	e.Context = &c
	return e
}

func withoutExtension(e ce.Event, name string) ce.Event {
	c := *e.Context.AsV1()
	c.Extensions = maps.Clone(c.Extensions)
	delete(c.Extensions, name)
	e.Context = &c
	return e
}
