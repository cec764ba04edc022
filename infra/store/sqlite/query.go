package sqlite

import (
	"encoding/binary"
	"math"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// keyFunction is the name of the SQL function ebb_key(data, path), which returns the key of a document's field. It
// fills the columns of a new index for existing documents.
var keyFunction = sqlite.FunctionImpl{
	NArgs:         2,
	Deterministic: true,
	AllowIndirect: true,
	Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
		return sqlite.BlobValue(key(field.Value(args[0].Blob(), args[1].Text()))), nil
	},
}

// key returns a value as bytes that sort as store.Compare does: its kind, then bytes that sort within the kind. Indexes
// hold keys rather than the results of json_extract, which returns 1 for true and differs from Go in the last bit of
// some decimals, so that a cursor made in Go could skip a document.
func key(v any) []byte {
	k := []byte{byte(field.Kind(v))}
	switch v := v.(type) {
	case nil:
		return k
	case bool:
		if v {
			return append(k, 1)
		}
		return append(k, 0)
	case string:
		return append(k, v...)
	}
	bits := math.Float64bits(field.Number(v))
	if bits>>63 == 1 {
		bits = ^bits // negative: the larger the bits, the smaller the number
	} else {
		bits |= 1 << 63
	}
	return binary.BigEndian.AppendUint64(k, bits)
}

// selectSQL returns a query in SQL with its arguments. It selects one document more than the limit, to know whether
// further ones follow.
func selectSQL(q store.Query) (sql string, args []any) {
	var where []string
	for _, f := range q.Where {
		c, a := condition(f)
		where, args = append(where, c), append(args, a...)
	}
	desc := len(q.Order) > 0 && q.Order[0].Desc // Schema.Check requires the same direction for all
	if q.After != nil {
		c, a := after(*q.After, q.Order, desc)
		where, args = append(where, c), append(args, a...)
	}
	sql = "SELECT id, version, data FROM " + quote(q.Collection)
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	direction := " ASC"
	if desc {
		direction = " DESC"
	}
	sql += " ORDER BY " + strings.Join(sorted(q.Order), direction+", ") + direction + " LIMIT ?"
	return sql, append(args, q.Limit+1)
}

// condition returns a filter in SQL. A filter other than Equal is also limited to the value's kind, because fields are
// compared only with values of their own kind.
func condition(f store.Filter) (sql string, args []any) {
	kind, k, v := byte(field.Kind(f.Value)), columnOf(f.Field), key(f.Value)
	switch {
	case kind == 0:
		return "0", nil
	case f.Op == store.Equal:
		return k + " = ?", []any{v}
	case f.Op == store.Less:
		return k + " < ? AND " + k + " >= ?", []any{v, []byte{kind}}
	case f.Op == store.LessOrEqual:
		return k + " <= ? AND " + k + " >= ?", []any{v, []byte{kind}}
	case f.Op == store.Greater:
		return k + " > ? AND " + k + " < ?", []any{v, []byte{kind + 1}}
	case f.Op == store.GreaterOrEqual:
		return k + " >= ? AND " + k + " < ?", []any{v, []byte{kind + 1}}
	}
	return "0", nil
}

// after returns the condition for documents after a position. SQLite uses an index only for the first column of a row
// value, so that column has a condition of its own.
func after(p store.Position, order []store.Order, desc bool) (sql string, args []any) {
	for _, v := range p.Values {
		args = append(args, key(v))
	}
	args = append(args, p.ID)
	op, by := " >", sorted(order)
	if desc {
		op = " <"
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(args)), ", ")
	row := "(" + strings.Join(by, ", ") + ")" + op + " (" + marks + ")"
	return by[0] + op + "= ? AND " + row, append([]any{args[0]}, args...)
}

// sorted returns the columns that an order sorts by, the id last.
func sorted(order []store.Order) []string {
	var by []string
	for _, o := range order {
		by = append(by, columnOf(o.Field))
	}
	return append(by, "id")
}

// columnOf returns the column with the key of a field.
func columnOf(path string) string { return quote("key of " + path) }

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
