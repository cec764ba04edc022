package function

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Personal data leaves a handler encrypted. Fields of an event that have the tag personal are sent as placeholders, and
// what they have goes along encrypted under a key that the function has for that person alone; the key goes along too,
// wrapped under the system's keys. A handler of another function gets the fields as they were. Of an event whose key
// was taken away it gets the placeholders, which satisfy the schema: so a replay after an erasure works.
//
// The function's key for a person is one document. When the person is erased (event.PersonErased), the key is
// destroyed, and the document says so from then on: what the function emits about the person later has placeholders and
// nothing else. event.DataErased tells that it was done.

const personalName = "_personal"

// personKey is a function's key for one person. Its document has a hash of the person's id.
type personKey struct {
	Wrapped string    `json:"key,omitempty"`
	Erased  time.Time `json:"erased,omitzero"` // the key is destroyed
}

var personKeys = store.NewCollection[personKey](personalName)

type personalConfig struct {
	Keys string `envconfig:"EBB_PERSONAL_KEYS" secret:"true" desc:"keys that the keys of persons are wrapped under, the same for all functions: 32 bytes in base64url, with commas between, the current one first; none: a key that everyone knows"`
}

// Validate reports keys that are not valid.
func (c personalConfig) Validate() error {
	_, err := c.keys()
	return err
}

func (c personalConfig) keys() (personal.Keys, error) {
	if c.Keys == "" {
		return personal.Public(), nil
	}
	return personal.ParseKeys(c.Keys)
}

func personalFields(info *event.Info) *personal.Fields { return personal.FieldsOf(info.GoType) }

// hasPersonKeys reports whether the function encrypts personal data: in events that it emits, or in its store.
func (f *Function) hasPersonKeys() bool {
	for _, info := range f.emits {
		if personalFields(info) != nil {
			return true
		}
	}
	return f.storesPersonal
}

// readsPersonal reports whether the function needs the system's keys.
func (f *Function) readsPersonal() bool {
	for _, s := range f.subscriptions {
		if personalFields(s.info) != nil {
			return true
		}
	}
	return f.hasPersonKeys()
}

// personalSettings returns the setting with the system's keys, if the function needs them.
func (f *Function) personalSettings() (all []manifest.Setting) {
	if !f.readsPersonal() {
		return nil
	}
	for _, v := range config.Variables[personalConfig]("") {
		all = append(all, manifest.Setting{Variable: v.Name, Description: v.Desc, Secret: true})
	}
	return all
}

func (f *Function) checkPersonalSettings(lookup config.Lookup) error {
	if !f.readsPersonal() {
		return nil
	}
	_, err := config.Load[personalConfig]("", lookup)
	return err
}

// loadPersonalKeys parses the system's keys for an instance that starts. Without the setting it starts all the same,
// as it did before there was one: what an erasure destroys is destroyed then too.
func (f *Function) loadPersonalKeys() error {
	if !f.readsPersonal() {
		return nil
	}
	c, err := loadSettings[personalConfig](f.env)
	if err != nil {
		return err
	}
	if c.Keys == "" {
		f.env.Logger.Warn("the keys of persons are wrapped under a key that everyone knows: set " + personal.Variable)
	}
	f.personalKeys, err = c.keys()
	return err
}

func personID(person string) string {
	sum := sha256.Sum256([]byte(person))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyOf returns the function's key for a person, also wrapped; nil when the person is erased.
func (f *Function) keyOf(
	ctx context.Context, tx store.Transactor, person string, create bool,
) (personal.Key, string, error) {
	if person == "" {
		return nil, "", fault.New(fault.Internal, "personal data of nobody: the field with the person's id is empty")
	}
	db, at := tx.StoreTx(), personKeys.Key(personID(person))
	cached, ok := f.keyCache.get(at.ID)
	if u, handler := tx.(*Tx); ok && handler && !u.readOnly {
		db.Presume(cached.doc)
	}
	d, err := db.Get(ctx, at)
	if err != nil {
		return nil, "", err
	}
	if ok && d.Version == cached.doc.Version {
		return cached.key, cached.wrapped, nil
	}
	if ok { // it has changed: the next unit must not presume it again
		f.keyCache.remove(at.ID)
	}
	known, ok, err := personKeys.Find(ctx, tx, at.ID)
	switch {
	case err != nil || !known.Erased.IsZero() || !ok && !create:
		return nil, "", err
	case ok:
		key, err := f.personalKeys.Unwrap(known.Wrapped)
		if err == nil && db.Written(at) == 0 {
			f.keyCache.put(cachedKey{d, key, known.Wrapped})
		}
		return key, known.Wrapped, err
	}
	key, wrapped, err := f.personalKeys.New()
	if err != nil {
		return nil, "", err
	}
	return key, wrapped, personKeys.Put(ctx, tx, at.ID, personKey{Wrapped: wrapped})
}

// keyCache holds keys of persons that the function has used lately, and their documents. A unit of work that writes
// presumes that a document is unchanged, and its commit requires it, so an erased person's key is never used for what
// is committed; what only reads reads the document.
type keyCache struct {
	mu   sync.Mutex
	keys map[string]cachedKey // by id of the document
}

type cachedKey struct {
	doc     store.Document
	key     personal.Key
	wrapped string
}

// maxCachedKeys is how many keys the cache holds before it begins anew.
const maxCachedKeys = 2048

func (c *keyCache) get(id string) (cachedKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.keys[id]
	return k, ok
}

func (c *keyCache) put(k cachedKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxCachedKeys {
		c.keys = map[string]cachedKey{}
	}
	c.keys[k.doc.ID] = k
}

func (c *keyCache) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, id)
}

// conceal encrypts the personal fields of an event that is being stamped, and returns its data with placeholders.
func (tx *Tx) conceal(
	ctx context.Context, d event.Draft, e ce.Event, data json.RawMessage,
) (json.RawMessage, error) {
	fields := personalFields(d.Info)
	if fields == nil {
		return data, nil
	}
	redacted, person, values := personal.Take(fields, d.Data)
	if values == nil {
		return data, nil
	}
	if tx.db == nil || tx.readOnly {
		return nil, fault.New(fault.Internal, "an operation that only reads emitted an event")
	}
	d.Data = redacted
	data, err := d.Encode()
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the placeholders of %s", d.Info.Name)
	}
	key, wrapped, err := tx.f.keyOf(ctx, tx, person, true)
	if err != nil || key == nil {
		return data, err
	}
	sealed, err := key.Seal(values, personal.EventPurpose(e.Source(), e.ID()))
	if err != nil {
		return nil, err
	}
	extensions := e.Context.(*ce.EventContextV1).Extensions
	extensions[event.Person], extensions[event.PersonalValues], extensions[event.PersonalKey] = person, sealed, wrapped
	return data, nil
}

// reveal puts the values of an event's personal fields into its decoded data. Where the key is gone placeholders stay.
func (f *Function) reveal(fields *personal.Fields, e ce.Event, data any) error {
	sealed, wrapped := event.Extension(e, event.PersonalValues), event.Extension(e, event.PersonalKey)
	if sealed == "" || wrapped == "" {
		return nil
	}
	key, err := f.personalKeys.Unwrap(wrapped)
	if err != nil {
		return err
	}
	values, err := key.Open(sealed, personal.EventPurpose(e.Source(), e.ID()))
	if err != nil {
		return err
	}
	fields.Put(data, values)
	return nil
}

const sealedText = "sealed:"

// SealPersonal returns a text for the function's store, for package journal: encrypted under the function's key for the
// person, or the placeholder when the person is erased.
func (i instance) SealPersonal(
	ctx context.Context, tx store.Transactor, person, text, placeholder string,
) (string, error) {
	key, _, err := i.keyOf(ctx, tx, person, true)
	if err != nil || key == nil {
		return placeholder, err
	}
	sealed, err := key.Seal(map[string]string{"text": text}, "text of "+person)
	return sealedText + sealed, err
}

// IsSealedPersonal reports whether a text is one that SealPersonal has encrypted.
func (i instance) IsSealedPersonal(text string) bool { return strings.HasPrefix(text, sealedText) }

// OpenPersonal returns the text that SealPersonal has encrypted; the placeholder when the person is erased. A text that
// is not encrypted is returned as it is: it was stored before.
func (i instance) OpenPersonal(
	ctx context.Context, tx store.Transactor, person, text, placeholder string,
) (string, error) {
	sealed, ok := strings.CutPrefix(text, sealedText)
	if !ok {
		return text, nil
	}
	key, _, err := i.keyOf(ctx, tx, person, false)
	if err != nil || key == nil {
		return placeholder, err
	}
	values, err := key.Open(sealed, "text of "+person)
	return values["text"], err
}

// learnErasure returns the handler of event.PersonErased, which calls next, the function's own handler, if it has one.
func learnErasure(next handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		data, err := event.PersonErased.Decode(e)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "%s", err.Error())
		}
		if err := tx.destroyKey(ctx, data.PersonID); err != nil || next == nil {
			return err
		}
		return next(ctx, tx, e)
	}
}

func (tx *Tx) destroyKey(ctx context.Context, person string) error {
	known, _, err := personKeys.Find(ctx, tx, personID(person))
	if err != nil || !known.Erased.IsZero() {
		return err
	}
	erased := []event.ErasedItem{}
	if known.Wrapped != "" {
		erased = append(erased, event.ErasedItem{What: "key", Count: 1})
	}
	tx.Emit(event.DataErased.New(person, event.ErasedData{
		PersonID: person, Function: tx.f.name, At: tx.now, Erased: erased,
	}).Keyed(person + "/erased"))
	tx.f.keyCache.remove(personID(person))
	return personKeys.Put(ctx, tx, personID(person), personKey{Erased: tx.now})
}

// checkPlaceholders panics when the placeholders of a type do not satisfy its schema.
func checkPlaceholders(info *event.Info) {
	fields := personalFields(info)
	if fields == nil {
		return
	}
	redacted, _, _ := personal.Take(fields, info.Example())
	if _, err := (event.Draft{Info: info, Data: redacted}).Encode(); err != nil {
		panic("the placeholders of " + info.Name + ": " + err.Error())
	}
}

// revealed returns a handler step that decodes an event of the type with its personal fields. Those of an older version
// are put into that version's data before it is read as the newer one: the two may have other fields.
func revealed[T any](f *Function, t event.Type[T]) func(e ce.Event) (T, error) {
	fields := personal.FieldsOf(reflect.TypeFor[T]())
	older := map[string]*event.Info{}
	for _, info := range t.Info().Older() {
		if personalFields(info) != nil {
			older[info.Name] = info
		}
	}
	return func(e ce.Event) (data T, err error) {
		old := older[e.Type()]
		if old != nil {
			if e.DataEncoded, err = f.revealData(old, e); err != nil {
				return data, err
			}
		}
		if data, err = t.Decode(e); err != nil {
			return data, fault.Wrap(err, fault.Invalid, "%s", err.Error())
		}
		if fields != nil && e.Type() == t.Name() {
			err = f.reveal(fields, e, &data)
		}
		return data, err
	}
}

// revealData returns the data of an event with the values of its personal fields. Where the key is gone the data stays.
func (f *Function) revealData(info *event.Info, e ce.Event) ([]byte, error) {
	if event.Extension(e, event.PersonalValues) == "" || event.Extension(e, event.PersonalKey) == "" {
		return e.DataEncoded, nil
	}
	data, err := info.New(e.DataEncoded)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "%s", err.Error())
	}
	if err := f.reveal(personalFields(info), e, data); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode %s", info.Name)
	}
	return encoded, nil
}
