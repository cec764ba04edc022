package postgres

import (
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// keyFunction is the SQL function that returns the key of a document's field: a text whose bytes sort as store.Compare
// does, its kind first. It is equal to the result of key. It is a function of the schema and not an expression, so that
// a document is decompressed once for each key, and in PL/pgSQL, whose calls cost less than those of an SQL function
// that is not inlined. If the form of keys changes, the function and the indexes must get other names, because older
// versions use these.
const keyFunction = `CREATE OR REPLACE FUNCTION %s.ebb_key(v jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $ebb$
DECLARE
	f float8;
BEGIN
	CASE jsonb_typeof(v)
	WHEN 'string' THEN
		RETURN '3' || (v #>> '{}');
	WHEN 'number' THEN
		f := v::float8;
		IF f < 0 THEN
			RETURN '20' || translate(encode(float8send(-f), 'hex'), '0123456789abcdef', 'fedcba9876543210');
		END IF;
		RETURN '21' || encode(float8send(f), 'hex');
	WHEN 'boolean' THEN
		RETURN CASE WHEN v::boolean THEN '11' ELSE '10' END;
	ELSE
		RETURN '0';
	END CASE;
END
$ebb$`

// key returns the result of keyFunction for a value.
func key(v any) string {
	switch v := v.(type) {
	case nil:
		return "0"
	case bool:
		if v {
			return "11"
		}
		return "10"
	case string:
		return "3" + escape(v)
	}
	f := field.Number(v)
	if f < 0 {
		return fmt.Sprintf("20%016x", ^math.Float64bits(-f))
	}
	return fmt.Sprintf("21%016x", math.Float64bits(f))
}

// table is a collection in the database, with the statements that depend only on its name.
type table struct {
	namespace, name                                          string // quoted
	collection                                               string
	singleUse                                                bool
	create, change, put, erase, remove, check, reserve, hold string
	above, markAndErase, markAndRemove                       string
}

func newTable(namespace string, spec store.Spec) *table {
	t := &table{
		namespace: quote(namespace), name: quote(namespace, spec.Name),
		collection: literal(spec.Name), singleUse: spec.SingleUse,
	}
	t.prepare()
	return t
}

// selectSQL returns a query in SQL with its arguments. It selects one document more than the limit, to know whether
// further ones follow. The limit is not an argument, because PostgreSQL's generic plans would then assume a tenth of
// the table.
func (t *table) selectSQL(q store.Query) (sql string, args []any) {
	var where []string
	add := func(format string, values ...string) {
		marks := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			marks[i] = len(args)
		}
		where = append(where, fmt.Sprintf(format, marks...))
	}
	for _, f := range q.Where {
		condition(f, strings.ReplaceAll(t.keyOf(f.Field), "%", "%%"), add)
	}
	desc := len(q.Order) > 0 && q.Order[0].Desc // Schema.Check requires the same direction for all
	by, direction, beyond := t.sorted(q.Order), " ASC", ">"
	if desc {
		direction, beyond = " DESC", "<"
	}
	if q.After != nil {
		var values, marks []string
		for _, v := range q.After.Values {
			values, marks = append(values, key(v)), append(marks, "$%d")
		}
		values, marks = append(values, q.After.ID), append(marks, "$%d")
		row := strings.ReplaceAll(strings.Join(by, ", "), "%", "%%")
		add("("+row+") "+beyond+" ("+strings.Join(marks, ", ")+")", values...)
	}
	sql = "SELECT " + literal(q.Collection) + ", id, version, data, exact FROM " + t.name
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	sql += " ORDER BY " + strings.Join(by, direction+", ") + direction
	return sql + fmt.Sprintf(" LIMIT %d", q.Limit+1), args
}

// condition adds a filter in SQL. A filter other than Equal is also limited to the value's kind, because fields are
// compared only with values of their own kind.
func condition(f store.Filter, k string, add func(format string, values ...string)) {
	kind, v := field.Kind(f.Value), key(f.Value)
	lower, upper := fmt.Sprint(kind), fmt.Sprint(kind+1)
	switch {
	case kind == 0:
		add("false")
	case f.Op == store.Equal:
		add(k+" = $%d", v)
	case f.Op == store.Less:
		add(k+" < $%d AND "+k+" >= $%d", v, lower)
	case f.Op == store.LessOrEqual:
		add(k+" <= $%d AND "+k+" >= $%d", v, lower)
	case f.Op == store.Greater:
		add(k+" > $%d AND "+k+" < $%d", v, upper)
	case f.Op == store.GreaterOrEqual:
		add(k+" >= $%d AND "+k+" < $%d", v, upper)
	default:
		add("false")
	}
}

// sorted returns the expressions that an order sorts by, the id last.
func (t *table) sorted(order []store.Order) (by []string) {
	for _, o := range order {
		by = append(by, t.keyOf(o.Field))
	}
	return append(by, "id")
}

// keyOf returns the expression of a field's key, exactly as in the indexes. The operator -> finds a member of an object
// and none in an array, as a path does.
func (t *table) keyOf(path string) string {
	sql := t.namespace + ".ebb_key(data"
	for _, name := range strings.Split(path, ".") {
		sql += " -> " + literal(escape(name))
	}
	return sql + `) COLLATE "C"`
}

func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
