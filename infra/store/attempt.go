package store

// attempt is what the transactions of one attempt of a unit of work have in common.
type attempt struct {
	values   map[any]any
	halvings int // how often the database has refused the unit as too large
	portion  int // the largest result of Portion; 0: none
}

// Shared returns the value of make, which is called once for a key in each attempt of a unit of work, at whatever level
// of nesting. It is for what several handlers of a batch need and one can find out, such as the result of a query. The
// value must not depend on writes of a nested transaction, which may be dropped. After an error make is called again.
func Shared[T any](tx Transactor, key any, make func() (T, error)) (T, error) {
	a := tx.StoreTx().attempt
	if v, ok := a.values[key]; ok {
		return v.(T), nil
	}
	v, err := make()
	if err != nil {
		return v, err
	}
	if a.values == nil {
		a.values = map[any]any{}
	}
	a.values[key] = v
	return v, nil
}

// Portion returns how much of a large piece of work the unit should do at once: n, or half of it for each time that the
// database has refused the unit's commit as too large (fault.TooLarge), and at least 1. Update runs a unit again that
// has asked for a portion and was refused, until the portion is 1. So work that is counted in pieces gets on with a
// database that limits bytes.
func (tx *Tx) Portion(n int) int {
	a := tx.attempt
	n = max(n>>a.halvings, 1)
	a.portion = max(a.portion, n)
	return n
}
