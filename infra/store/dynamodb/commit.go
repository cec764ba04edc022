package dynamodb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// change is a mutation in DynamoDB's form.
type change struct {
	store.Mutation
	spec     store.Spec
	state    state
	key      itemKey
	rows     []itemKey // that the document gets
	unique   string    // of this write
	mark     itemKey   // of a deletion that leaves a mark: the mark's row
	expected int64     // the version that a precondition requires; whichever: there is none

	before sight // of the item; see known
	known  bool  // whether before is what is there, which the commit then requires
}

const whichever = -1

// mustLook reports whether the change cannot be made without knowing the item.
func (c *change) mustLook() bool {
	switch {
	case c.known, c.expected == 0:
		return false
	case len(c.state.Indexes) > 0:
		return true
	case c.Data == nil:
		return c.expected == whichever && !c.spec.SingleUse
	}
	return false
}

// commit writes a batch if its preconditions hold, in one TransactWriteItems.
//
// A document's rows follow from its data, so those that a change removes are known when the item is: from an earlier
// call of this handle, or from a read. Then the commit requires that the item is that one, by its unique attribute.
func (s *Store) commit(ctx context.Context, b store.Batch) error {
	if len(b.Mutations) == 0 {
		return s.check(ctx, b.Preconditions)
	}
	for n := 1; ; n++ {
		changes, err := s.changes(b)
		if err == nil {
			err = s.look(ctx, changes)
		}
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.creates() && c.Version <= s.floors.Of(c.Collection) {
				return changed(c.Key)
			}
		}
		actions, keys, err := s.actions(b.Preconditions, changes)
		if err != nil || len(actions) == 0 {
			return err
		}
		err = s.write(ctx, actions)
		if err == nil {
			s.note(changes)
			return nil
		}
		refused := false
		for i, code := range reasons(err) {
			if code == conditionFailed && i < len(keys) {
				s.seen.Drop(keys[i])
				refused = true
			}
		}
		switch {
		case refused: // find out whether a precondition does not hold, or only what was known is out of date
			if err := s.check(ctx, b.Preconditions, changes...); err != nil {
				return err
			}
			if n == attempts {
				return changed(b.Mutations[0].Key)
			}
		case !contended(err) || n == attempts || !pause(ctx, n):
			return err
		}
	}
}

// creates reports whether the change creates a document that must be missing, with a version above its mark.
func (c *change) creates() bool { return c.Data != nil && c.expected == 0 && !c.spec.SingleUse }

// check returns fault.Conflict unless all preconditions hold at one moment, and every document that the changes create
// gets a version above its mark.
func (s *Store) check(ctx context.Context, preconditions []store.Precondition, changes ...*change) error {
	if len(preconditions) == 0 {
		return nil
	}
	keys := make([]store.Key, len(preconditions))
	for i, p := range preconditions {
		keys[i] = p.Key
	}
	items, err := s.read(ctx, keys)
	if err != nil {
		return err
	}
	for _, p := range preconditions {
		if items[p.Key].version != p.Version {
			return changed(p.Key)
		}
	}
	for _, c := range changes {
		if c.creates() && c.Version <= items[c.Key].last {
			return changed(c.Key)
		}
	}
	return nil
}

// changes returns the mutations in DynamoDB's form, with what is known of their items.
func (s *Store) changes(b store.Batch) ([]*change, error) {
	expected := make(map[store.Key]int64, len(b.Preconditions))
	for _, p := range b.Preconditions {
		expected[p.Key] = p.Version
	}
	changes := make([]*change, len(b.Mutations))
	for i, m := range b.Mutations {
		key, err := documentKey(m.Key)
		if err != nil {
			return nil, err
		}
		spec, _ := s.schema.Spec(m.Collection) // it is declared, as every call has checked
		c := &change{Mutation: m, spec: spec, state: s.state(m.Collection), key: key, expected: whichever}
		if v, conditional := expected[m.Key]; conditional {
			c.expected = v
		}
		if m.Data != nil {
			if !utf8.Valid(m.Data) {
				return nil, fault.New(fault.Invalid, "%s %q is not UTF-8 text", m.Collection, m.ID)
			}
			if c.rows, err = rowsOfDocument(m.Collection, c.state.Indexes, m.Data, m.ID); err != nil {
				return nil, err
			}
		}
		if c.unique, err = newUnique(); err != nil {
			return nil, err
		}
		if m.Data == nil && !spec.SingleUse {
			c.mark = markKey(m.Key, s.time())
		}
		c.before, c.known = s.seen.Get(m.Key)
		if c.known && c.expected != whichever && c.before.version != c.expected || c.known && c.before.unique == "" {
			c.known = false // out of date, or it may have been written since
		}
		changes[i] = c
	}
	return changes, nil
}

func newUnique() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fault.Wrap(err, fault.Internal, "no random numbers")
	}
	return hex.EncodeToString(b[:]), nil
}

// look reads the items that changes must know.
func (s *Store) look(ctx context.Context, changes []*change) error {
	var keys []store.Key
	for _, c := range changes {
		if c.mustLook() {
			keys = append(keys, c.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	items, err := s.read(ctx, keys)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if !slices.Contains(keys, c.Key) {
			continue
		}
		it := items[c.Key]
		if c.expected != whichever && it.version != c.expected {
			return changed(c.Key)
		}
		if it.layout > c.state.Layout { // a newer version of the function has declared an index since
			if err := s.fresh(ctx, true); err != nil {
				return err
			}
			return s.again(ctx, changes)
		}
		c.before, c.known = s.sight(c.Key, it), true
	}
	return nil
}

// again prepares changes anew by the indexes that are registered now.
func (s *Store) again(ctx context.Context, changes []*change) (err error) {
	for _, c := range changes {
		if c.state = s.state(c.Collection); c.Data != nil {
			if c.rows, err = rowsOfDocument(c.Collection, c.state.Indexes, c.Data, c.ID); err != nil {
				return err
			}
		}
		c.known = false
	}
	return s.look(ctx, changes)
}

// note caches what a commit has written.
func (s *Store) note(changes []*change) {
	for _, c := range changes {
		if c.Data == nil || !c.known && c.expected != 0 {
			s.seen.Drop(c.Key) // the next read tells what is there
			continue
		}
		s.seen.Put(c.Key, sight{
			version: c.Version, last: c.before.last, unique: c.unique, layout: c.state.Layout, rows: c.rows,
		})
	}
}

// actions returns the actions of a commit and the document that each of them is about, or an error when DynamoDB would
// refuse them.
func (s *Store) actions(
	preconditions []store.Precondition, changes []*change,
) (actions []types.TransactWriteItem, keys []store.Key, err error) {
	written := map[store.Key]bool{}
	size := 0
	add := func(k store.Key, action types.TransactWriteItem, bytes int) {
		actions, keys = append(actions, action), append(keys, k)
		size += bytes
	}
	for _, c := range changes {
		if written[c.Key] {
			return nil, nil, fault.New(fault.Internal, "a commit writes %s %q twice", c.Collection, c.ID)
		}
		written[c.Key] = true
		action, bytes := s.action(c)
		if bytes > maxItem {
			return nil, nil, fault.New(fault.TooLarge, "%s %q has %d bytes, names included; DynamoDB takes at most %d",
				c.Collection, c.ID, bytes, maxItem)
		}
		add(c.Key, action, bytes)
		more, bytes := c.rowActions(s)
		for _, r := range more {
			add(c.Key, r, 0)
		}
		size += bytes
	}
	for _, p := range preconditions {
		if written[p.Key] {
			continue
		}
		key, err := documentKey(p.Key)
		if err != nil {
			return nil, nil, err
		}
		add(p.Key, types.TransactWriteItem{ConditionCheck: s.requires(key, p.Version)}, 0)
	}
	switch {
	case len(actions) > maxActions:
		return nil, nil, fault.New(fault.TooLarge,
			"a commit of %d documents has %d actions with their index rows and preconditions; DynamoDB takes at most %d at once",
			len(changes), len(actions), maxActions)
	case size > maxCommit:
		return nil, nil, fault.New(fault.TooLarge, "a commit of %d documents has %d bytes; DynamoDB takes at most %d at once",
			len(changes), size, maxCommit)
	}
	return actions, keys, nil
}

// requires returns a check of a document's version; 0: that it is missing.
func (s *Store) requires(key itemKey, v int64) *types.ConditionCheck {
	condition, values := versionIs(v)
	return &types.ConditionCheck{
		TableName: &s.config.Table, Key: key.attributes(), ConditionExpression: &condition,
		ExpressionAttributeValues: values,
	}
}

func versionIs(v int64) (condition string, values attributes) {
	if v == 0 {
		return "attribute_not_exists(v)", nil
	}
	return "v = :expected", attributes{":expected": integerValue(v)}
}

// condition returns what a change requires of its item; "": nothing.
func (c *change) condition() (condition string, values attributes) {
	switch {
	case c.known && c.before.unique != "":
		condition, values = "u = :was", attributes{":was": textValue(c.before.unique)}
	case c.known:
		condition = "attribute_not_exists(v)"
	case c.expected != whichever:
		condition, values = versionIs(c.expected)
	default:
		return "", nil
	}
	if values == nil {
		values = attributes{}
	}
	switch {
	case c.creates():
		condition += " AND (attribute_not_exists(#last) OR #last < :version)"
		values[":version"] = integerValue(c.Version)
	case c.Data == nil && !c.spec.SingleUse && !c.known && c.expected > 0:
		condition += " AND (attribute_not_exists(#last) OR #last <= :last)"
		values[":last"] = integerValue(max(c.expected, c.Version))
	}
	return condition, values
}

// action returns the action on the document itself, and how many bytes the item has then.
func (s *Store) action(c *change) (action types.TransactWriteItem, size int) {
	condition, values := c.condition()
	put := &types.Update{
		TableName: &s.config.Table, Key: c.key.attributes(), ConditionExpression: expression(condition),
		ExpressionAttributeValues: values,
	}
	switch {
	case c.Data == nil && c.missing():
		condition, values := versionIs(0)
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
			TableName: &s.config.Table, Key: c.key.attributes(), ConditionExpression: &condition,
			ExpressionAttributeValues: values,
		}}, 0
	case c.Data == nil && c.spec.SingleUse:
		return types.TransactWriteItem{Delete: &types.Delete{
			TableName: &s.config.Table, Key: c.key.attributes(), ConditionExpression: expression(condition),
			ExpressionAttributeValues: values,
		}}, 0
	case c.Data == nil:
		put.UpdateExpression = aws.String("SET #last = :last, u = :unique, m = :mark REMOVE v, d, l")
		lastOf := max(c.Version, c.expected)
		if c.known {
			lastOf = max(c.Version, c.before.version, c.before.last)
		}
		c.values(put)[":last"], c.values(put)[":mark"] = integerValue(lastOf), textValue(c.mark.sort)
	default:
		put.UpdateExpression = aws.String("SET v = :v, d = :data, l = :layout, u = :unique REMOVE m, #ttl")
		put.ExpressionAttributeNames = map[string]string{"#ttl": expires}
		c.values(put)[":v"], c.values(put)[":data"] = integerValue(c.Version), textValue(string(c.Data))
		c.values(put)[":layout"] = integerValue(c.state.Layout)
		if until := c.expires(); until > 0 {
			put.UpdateExpression = aws.String("SET v = :v, d = :data, l = :layout, u = :unique, #ttl = :ttl REMOVE m")
			c.values(put)[":ttl"] = integerValue(until)
		}
		size = len(c.Data) + len(c.key.partition) + len(c.key.sort) + itemOverhead
	}
	if c.creates() || c.Data == nil {
		if put.ExpressionAttributeNames == nil {
			put.ExpressionAttributeNames = map[string]string{}
		}
		put.ExpressionAttributeNames["#last"] = last
	}
	c.values(put)[":unique"] = textValue(c.unique)
	return types.TransactWriteItem{Update: put}, size
}

// missing reports whether the document is missing, or must be.
func (c *change) missing() bool { return c.known && c.before.version == 0 || c.expected == 0 }

// itemOverhead is about how many bytes an item has beside its data and its key, rounded up.
const itemOverhead = 160

func expression(condition string) *string {
	if condition == "" {
		return nil
	}
	return &condition
}

// values returns the values of an update's expressions.
func (c *change) values(u *types.Update) attributes {
	if u.ExpressionAttributeValues == nil {
		u.ExpressionAttributeValues = attributes{}
	}
	return u.ExpressionAttributeValues
}

// expires returns when DynamoDB may remove the document by its TTL; 0: never. It does so only in a collection whose ids
// are not used again, since it leaves no mark. The kit removes expired documents earlier; this is for a function that
// has no more units of work.
func (c *change) expires() int64 {
	if !c.spec.SingleUse || c.spec.Expiry == nil || c.Data == nil {
		return 0
	}
	var until time.Time
	switch v := field.Value(c.Data, c.spec.Expiry.Field).(type) {
	case float64:
		until = time.Unix(int64(v), 0)
	case string:
		until, _ = time.Parse(time.RFC3339Nano, v)
	}
	if until.Unix() <= 0 {
		return 0
	}
	return until.Add(c.spec.Expiry.After + ttlDelay).Unix()
}

// ttlDelay is how long after its time DynamoDB may remove an expired document.
const ttlDelay = 24 * time.Hour

// rowActions returns the actions that bring the document's rows up to date, and, of a deletion, the row of its mark.
func (c *change) rowActions(s *Store) (actions []types.TransactWriteItem, size int) {
	put := func(k itemKey, until int64) {
		actions = append(actions, s.putRow(k, c.ID, until))
		size += len(k.partition) + len(k.sort) + len(c.ID) + itemOverhead
	}
	var old []itemKey
	if c.known {
		old = c.before.rows
	}
	for _, k := range old {
		if !slices.Contains(c.rows, k) {
			actions = append(actions, types.TransactWriteItem{Delete: &types.Delete{
				TableName: &s.config.Table, Key: k.attributes(),
			}})
		}
	}
	complete := c.known && c.before.layout == c.state.Layout
	for _, k := range c.rows {
		if !complete || !slices.Contains(old, k) || c.expires() > 0 {
			put(k, c.expires())
		}
	}
	if c.mark.sort != "" && !c.missing() {
		put(c.mark, 0)
	}
	return actions, size
}

func (s *Store) putRow(k itemKey, of string, until int64) types.TransactWriteItem {
	row := k.attributes()
	row[id] = textValue(of)
	if until > 0 {
		row[expires] = integerValue(until)
	}
	return types.TransactWriteItem{Put: &types.Put{TableName: &s.config.Table, Item: row}}
}

// write sends a transaction. The SDK repeats it with the same token when it gets no answer, and DynamoDB applies it
// once.
func (s *Store) write(ctx context.Context, actions []types.TransactWriteItem) error {
	token, err := newUnique()
	if err != nil {
		return err
	}
	_, err = s.calls.transactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
		TransactItems: actions, ClientRequestToken: aws.String(token + strconv.Itoa(len(actions))),
	})
	return err
}
