package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// A mark has a row that sorts by the time of the deletion. Old marks are removed in two steps:
//
//  1. The floor of the collection is raised to the versions of the old marks. Every handle reads the floors again after
//     lag at the latest, and creates documents above them from then on.
//  2. When the floor has stood for announced, longer than any handle or unit of work goes by an older one, the marks up
//     to it are removed.
//
// The deletions drive both: the first of a handle, and every pruneEvery'th.

const (
	announced  = 10 * time.Minute
	pruneLimit = 400 // marks that are removed at once, of each collection
	pruneUnit  = 50  // marks that one transaction removes
)

// pruneEvery is how many marks a handle makes before it looks for old ones.
var pruneEvery int64 = 256

// markKey returns the key of the row of a mark.
func markKey(k store.Key, at time.Time) itemKey {
	return itemKey{marksOf(k.Collection), markSort(at) + k.ID}
}

func markSort(at time.Time) string { return fmt.Sprintf("%016x", max(at.UnixNano(), 0)) }

// asError is errors.As.
func asError[E error](err error, target *E) bool { return errors.As(err, target) }

// pruneAfter removes old marks when a batch that was committed has made enough new ones. What fails is done after later
// batches.
func (s *Store) pruneAfter(ctx context.Context, b store.Batch) {
	made := marks.Made(s.schema, b)
	for _, n := range made {
		s.marked.Add(n)
	}
	if s.marked.Load() <= pruneEvery || len(made) == 0 {
		return
	}
	s.marked.Store(0)
	for c := range made {
		_ = s.prune(ctx, c)
	}
}

// oldMark is a mark that is past its retention.
type oldMark struct {
	key  store.Key
	row  itemKey
	mark item
}

func (s *Store) prune(ctx context.Context, collection string) error {
	old, err := s.oldMarks(ctx, collection)
	if err != nil || len(old) == 0 {
		return err
	}
	largest := int64(0)
	for _, m := range old {
		largest = max(largest, m.mark.last)
	}
	var f marks.Floor
	err = s.change(ctx, func(r *registered) (bool, error) {
		if r.Floors == nil {
			r.Floors = map[string]marks.Floor{}
		}
		before := r.Floors[collection]
		f = before.Raise(largest, s.time(), announced)
		r.Floors[collection] = f
		return f != before, nil
	})
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(m oldMark) bool { return m.mark.last > f.Stood })
	for some := range slices.Chunk(old, pruneUnit) {
		if err := s.removeMarks(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// oldMarks returns the oldest marks that are past their retention.
func (s *Store) oldMarks(ctx context.Context, collection string) (old []oldMark, err error) {
	out, err := s.calls.query(ctx, &dynamodb.QueryInput{
		TableName: &s.config.Table, ConsistentRead: aws.Bool(true), Limit: aws.Int32(pruneLimit),
		KeyConditionExpression: aws.String("p = :p AND s < :end"),
		ExpressionAttributeValues: attributes{
			":p": textValue(marksOf(collection)), ":end": textValue(markSort(s.time().Add(-store.MarkRetention))),
		},
	})
	if err != nil {
		return nil, err
	}
	var keys []store.Key
	for _, a := range out.Items {
		k := store.Key{Collection: collection, ID: text(a, id)}
		keys = append(keys, k)
		old = append(old, oldMark{key: k, row: itemKey{marksOf(collection), text(a, sort)}})
	}
	items := map[store.Key]item{}
	for some := range slices.Chunk(keys, maxReads) {
		found, err := s.read(ctx, some)
		if err != nil {
			return nil, err
		}
		for k, it := range found {
			items[k] = it
		}
	}
	for i := range old {
		if it := items[old[i].key]; it.version == 0 && it.deleted == old[i].row.sort {
			old[i].mark = it
		}
	}
	return old, nil
}

// removeMarks removes marks and their rows. A row whose document was created again, or deleted again later, goes alone.
func (s *Store) removeMarks(ctx context.Context, old []oldMark) error {
	var actions []types.TransactWriteItem
	for _, m := range old {
		actions = append(actions, types.TransactWriteItem{Delete: &types.Delete{
			TableName: &s.config.Table, Key: m.row.attributes(),
		}})
		if m.mark.unique == "" {
			continue
		}
		key, err := documentKey(m.key)
		if err != nil {
			return err
		}
		actions = append(actions, types.TransactWriteItem{Delete: &types.Delete{
			TableName: &s.config.Table, Key: key.attributes(), ConditionExpression: aws.String("u = :was"),
			ExpressionAttributeValues: attributes{":was": textValue(m.mark.unique)},
		}})
	}
	return s.write(ctx, actions)
}
