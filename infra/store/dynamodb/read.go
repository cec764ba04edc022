package dynamodb

import (
	"context"
	"errors"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// item is a document or a mark as the table has it. The zero item is missing.
type item struct {
	version int64 // 0: it is no document
	last    int64
	data    string
	unique  string
	layout  int64
	deleted string // the sort key of a mark's row
}

// attributes are those of an item, as the SDK has them.
type attributes = map[string]types.AttributeValue

func text(a attributes, name string) string {
	if v, ok := a[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func integer(a attributes, name string) int64 {
	v, ok := a[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(v.Value, 10, 64)
	return n
}

func textValue(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func integerValue(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func (k itemKey) attributes() attributes {
	return attributes{partition: textValue(k.partition), sort: textValue(k.sort)}
}

func itemOf(a attributes) item {
	return item{
		version: integer(a, version), last: integer(a, last), data: text(a, data), unique: text(a, unique),
		layout: integer(a, layout), deleted: text(a, deleted),
	}
}

// errTooMuch is the error of a transaction whose items are too large together.
var errTooMuch = errors.New("the items are more than DynamoDB reads at once")

// agreements is how often documents are read that do not fit into one transaction, until two reads agree.
const agreements = 6

// read returns the items of documents at one moment. Missing ones are not in the result.
func (s *Store) read(ctx context.Context, keys []store.Key) (map[store.Key]item, error) {
	var distinct []store.Key
	known := map[store.Key]bool{}
	for _, k := range keys {
		if !known[k] {
			known[k], distinct = true, append(distinct, k)
		}
	}
	for size := maxReads; ; size = (size + 1) / 2 {
		items, err := s.readIn(ctx, distinct, size)
		if !errors.Is(err, errTooMuch) || size == 1 {
			return items, err
		}
	}
}

// readIn reads the items in transactions of a size. When there are several, all are read again until no item has
// changed in between: no write makes the same unique attribute, so that all items were as they are at one moment.
func (s *Store) readIn(ctx context.Context, keys []store.Key, size int) (map[store.Key]item, error) {
	var before map[store.Key]item
	for n := range agreements {
		now := make(map[store.Key]item, len(keys))
		for rest := keys; len(rest) > 0; {
			some := rest[:min(size, len(rest))]
			rest = rest[len(some):]
			if err := s.readSome(ctx, some, now); err != nil {
				return nil, err
			}
		}
		if len(keys) <= size || n > 0 && equalItems(before, now) {
			for _, k := range keys {
				s.seen.Put(k, s.sight(k, now[k]))
			}
			return now, nil
		}
		before = now
	}
	return nil, fault.New(fault.Conflict, "the documents change faster than %d of them can be read; try again", len(keys))
}

func equalItems(a, b map[store.Key]item) bool {
	if len(a) != len(b) {
		return false
	}
	for k, it := range a {
		if other, there := b[k]; !there || other.unique != it.unique {
			return false
		}
	}
	return true
}

// readSome reads items in one transaction.
func (s *Store) readSome(ctx context.Context, keys []store.Key, into map[store.Key]item) error {
	if len(keys) == 1 {
		k, err := documentKey(keys[0])
		if err != nil {
			return err
		}
		out, err := s.calls.getItem(ctx, &dynamodb.GetItemInput{
			TableName: &s.config.Table, Key: k.attributes(), ConsistentRead: aws.Bool(true),
		})
		if err == nil && len(out.Item) > 0 {
			into[keys[0]] = itemOf(out.Item)
		}
		return err
	}
	gets := make([]types.TransactGetItem, len(keys))
	for i, k := range keys {
		key, err := documentKey(k)
		if err != nil {
			return err
		}
		gets[i].Get = &types.Get{TableName: &s.config.Table, Key: key.attributes()}
	}
	for n := 1; ; n++ {
		out, err := s.calls.transactGetItems(ctx, &dynamodb.TransactGetItemsInput{TransactItems: gets})
		switch {
		case err == nil:
			for i, r := range out.Responses {
				if len(r.Item) > 0 {
					into[keys[i]] = itemOf(r.Item)
				}
			}
			return nil
		case tooMuch(err):
			return errTooMuch
		case !contended(err) || n == attempts || !pause(ctx, n):
			return err
		}
	}
}
