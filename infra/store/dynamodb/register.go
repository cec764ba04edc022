package dynamodb

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// The register is one item: the function that the table belongs to, the indexes of each collection, and the floors of
// removed marks. Indexes are only added. Every handle reads the register again before a call when it has not for lag,
// so that instances with an older schema write the rows that a newer one needs, a few seconds late. What they wrote
// before is found by a second sweep, after overlap.

// The times of the register.
var (
	lag     = 10 * time.Second
	overlap = time.Minute // more than lag and the timeout of a commit
)

var registerKey = itemKey{registry, "register"}

// registered is the register.
type registered struct {
	Function    string                 `json:"-"`
	Collections map[string]state       `json:"collections"`
	Floors      map[string]marks.Floor `json:"floors,omitempty"`
	number      int64
}

// state is what is known of the indexes of a collection.
type state struct {
	Indexes [][]string `json:"indexes"`
	Layout  int64      `json:"layout"` // increased each time that indexes are added
	Since   time.Time  `json:"since"`  // when they were last added
	Swept   bool       `json:"swept"`  // whether all documents of before have the rows
}

// states is the register as a handle has read it.
type states struct {
	at     time.Time
	all    map[string]state
	sweeps map[string]time.Time // when this handle has swept a collection last; guarded by sweeping
}

// state returns what is known of a collection.
func (s *Store) state(collection string) state { return s.states.Load().all[collection] }

// register adds the schema's declarations to the register, and reads it.
func (s *Store) register(ctx context.Context) error {
	return s.change(ctx, func(r *registered) (bool, error) { return r.add(s.config.Function, s.schema) })
}

// fresh reads the register again when that was too long ago, or now.
func (s *Store) fresh(ctx context.Context, now bool) error {
	if !now && s.time().Sub(s.states.Load().at).Abs() < lag {
		return nil
	}
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !now && s.time().Sub(s.states.Load().at).Abs() < lag {
		return nil
	}
	return s.change(ctx, func(*registered) (bool, error) { return false, nil })
}

// change changes the register, and notes what it is then.
func (s *Store) change(ctx context.Context, f func(*registered) (changed bool, err error)) error {
	for n := 1; ; n++ {
		begun := s.time()
		out, err := s.calls.getItem(ctx, &dynamodb.GetItemInput{
			TableName: &s.config.Table, Key: registerKey.attributes(), ConsistentRead: aws.Bool(true),
		})
		if err != nil {
			return err
		}
		r := registered{Function: text(out.Item, function), number: integer(out.Item, number)}
		if body := text(out.Item, content); body != "" {
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				return fault.Wrap(err, fault.Internal, "the register of the table is invalid")
			}
		}
		changed, err := f(&r)
		if err != nil {
			return err
		}
		if changed {
			err = s.writeRegister(ctx, r)
		}
		if err == nil {
			s.learn(r, begun)
			return nil
		}
		var refused *types.ConditionalCheckFailedException
		if !asError(err, &refused) && !contended(err) || !pause(ctx, min(n, attempts)) {
			return err
		}
	}
}

func (s *Store) writeRegister(ctx context.Context, r registered) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	row := registerKey.attributes()
	row[function], row[content], row[number] = textValue(r.Function), textValue(string(body)), integerValue(r.number+1)
	in := &dynamodb.PutItemInput{
		TableName: &s.config.Table, Item: row, ConditionExpression: aws.String("attribute_not_exists(p)"),
	}
	if r.number > 0 {
		in.ConditionExpression = aws.String("n = :n")
		in.ExpressionAttributeValues = attributes{":n": integerValue(r.number)}
	}
	_, err = s.calls.putItem(ctx, in)
	return err
}

// learn notes the register.
func (s *Store) learn(r registered, at time.Time) {
	known := &states{at: at, all: r.Collections, sweeps: map[string]time.Time{}}
	if before := s.states.Load(); before != nil {
		known.sweeps = before.sweeps
	}
	s.states.Store(known)
	for _, spec := range s.schema {
		if !spec.SingleUse {
			s.floors.Raise(spec.Name, r.Floors[spec.Name].Version)
		}
	}
}

// add adds the declarations of a schema.
func (r *registered) add(owner string, schema store.Schema) (changed bool, err error) {
	if r.Function == "" && owner != "" {
		r.Function, changed = owner, true
	}
	if owner != "" && r.Function != owner {
		return false, fault.New(fault.Internal,
			"the table belongs to the function %s; give %s a table of its own", r.Function, owner)
	}
	if r.Collections == nil {
		r.Collections = map[string]state{}
	}
	for _, spec := range schema {
		st, there := r.Collections[spec.Name]
		missing := slices.DeleteFunc(indexes(spec), func(f []string) bool {
			return slices.ContainsFunc(st.Indexes, func(g []string) bool { return slices.Equal(f, g) })
		})
		switch {
		case !there:
			st = state{Indexes: missing, Layout: 1, Swept: true}
		case len(missing) > 0:
			st = state{Indexes: append(slices.Clone(st.Indexes), missing...), Layout: st.Layout + 1, Since: time.Now()}
		default:
			continue
		}
		r.Collections[spec.Name], changed = st, true
	}
	return changed, nil
}

// swept makes sure that every document has the rows that a query needs.
func (s *Store) swept(ctx context.Context, q store.Query) error {
	st := s.state(q.Collection)
	if st.Swept || len(q.Where)+len(q.Order) == 0 {
		return nil
	}
	select {
	case s.sweeping <- struct{}{}:
		defer func() { <-s.sweeping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	sweeps := s.states.Load().sweeps
	late := time.Since(st.Since) > overlap
	if at := sweeps[q.Collection]; !late && time.Since(at) < lag && at.After(st.Since) {
		return nil
	}
	begun := time.Now()
	if err := s.sweep(ctx, q.Collection, st); err != nil {
		return err
	}
	sweeps[q.Collection] = begun
	if !late {
		return nil
	}
	return s.change(ctx, func(r *registered) (bool, error) {
		now := r.Collections[q.Collection]
		if now.Layout != st.Layout || now.Swept {
			return false, nil
		}
		now.Swept = true
		r.Collections[q.Collection] = now
		return true, nil
	})
}

// sweep writes the rows of documents of before an index was declared.
func (s *Store) sweep(ctx context.Context, collection string, st state) error {
	in := &dynamodb.QueryInput{
		TableName: &s.config.Table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression: aws.String("p = :p"),
		FilterExpression:       aws.String("attribute_exists(v) AND l < :layout"),
		ExpressionAttributeValues: attributes{
			":p": textValue(documentsOf(collection)), ":layout": integerValue(st.Layout),
		},
	}
	for {
		out, err := s.calls.query(ctx, in)
		if err != nil {
			return err
		}
		for _, a := range out.Items {
			if err := s.complete(ctx, collection, st, a); err != nil {
				return err
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// complete writes the rows of a document, unless it has changed since it was read: then its writer or the next sweep
// does.
func (s *Store) complete(ctx context.Context, collection string, st state, a attributes) error {
	it := itemOf(a)
	key := itemKey{documentsOf(collection), text(a, sort)}
	of := key.sort[len(documentSort("")):]
	keys, err := rowsOfDocument(collection, st.Indexes, []byte(it.data), of)
	if err != nil {
		return err
	}
	u, err := newUnique()
	if err != nil {
		return err
	}
	actions := []types.TransactWriteItem{{Update: &types.Update{
		TableName: &s.config.Table, Key: key.attributes(), ConditionExpression: aws.String("u = :was"),
		UpdateExpression: aws.String("SET l = :layout, u = :unique"),
		ExpressionAttributeValues: attributes{
			":was": textValue(it.unique), ":layout": integerValue(st.Layout), ":unique": textValue(u),
		},
	}}}
	for _, k := range keys {
		actions = append(actions, s.putRow(k, of, integer(a, expires)))
	}
	for n := 1; ; n++ {
		err := s.write(ctx, actions)
		switch {
		case err == nil, slices.Contains(reasons(err), conditionFailed):
			return nil
		case !contended(err) || n == attempts || !pause(ctx, n):
			return err
		}
	}
}
