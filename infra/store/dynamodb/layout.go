package dynamodb

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// The keys of the table, both strings. DynamoDB sorts by their bytes.
const (
	partition = "p"
	sort      = "s"
)

// The attributes of items.
const (
	version  = "v"    // of a document
	data     = "d"    // of a document: its JSON text
	unique   = "u"    // of a document or mark: differs for each write
	layout   = "l"    // of a document: the state of the collection's indexes that its rows belong to
	last     = "last" // of a mark, and of a document that was one
	deleted  = "m"    // of a mark: the sort key of its row
	expires  = "ttl"  // Unix seconds; the table's TTL attribute
	id       = "id"   // of a row: the document's id
	function = "f"    // of the register
	content  = "j"    // of the register: JSON
	number   = "n"    // of the register: counts its changes
)

// The limits of DynamoDB.
const (
	maxActions = 100
	maxItem    = 400 << 10
	maxCommit  = 4 << 20
	maxSort    = 1024
	maxReads   = 100 // of one TransactGetItems
)

// The partitions. Documents of a collection are in one, sorted by id, and the rows of each of its indexes in another.
const (
	documents = "d/"
	rows      = "i/"
	markRows  = "m/"
	registry  = "r"
)

func documentsOf(collection string) string { return documents + collection }
func marksOf(collection string) string     { return markRows + collection }

func rowsOf(collection string, fields []string) string {
	return rows + collection + "/" + strings.Join(fields, ",")
}

// itemKey is the key of an item.
type itemKey struct{ partition, sort string }

// documentKey returns the key of a document.
func documentKey(k store.Key) (itemKey, error) {
	switch {
	case len(k.ID) >= maxSort:
		return itemKey{}, fault.New(fault.Invalid, "the id has %d bytes; DynamoDB takes %d at most", len(k.ID), maxSort-1)
	case !utf8.ValidString(k.ID):
		return itemKey{}, fault.New(fault.Invalid, "the id %q is not UTF-8 text", k.ID)
	}
	return itemKey{documentsOf(k.Collection), documentSort(k.ID)}, nil
}

func documentSort(id string) string { return "d" + id }

// The first characters of values in the sort key of a row, in the order of values. A row's sort key is the values of
// the index's fields, separator, and the document's id. So it is longer than the values alone, whatever the id.
const (
	separator = " "
	tagNone   = "0"
	tagFalse  = "1"
	tagTrue   = "2"
	tagNumber = "3"
	tagText   = "4"
	tagEnd    = "5" // after all values
)

// The end of a text in a sort key, and what stands for a zero byte in it. Sort keys compare by their bytes.
const (
	textEnd  = "\x00\x01"
	zeroByte = "\x00\x02"
)

// encode returns a value in a sort key. Encodings sort as the values do, and none is the beginning of another.
func encode(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return tagTrue
		}
		return tagFalse
	case string:
		return tagText + strings.ReplaceAll(v, "\x00", zeroByte) + textEnd
	case float64, int64, int:
		bits := math.Float64bits(field.Number(v))
		if bits>>63 == 0 {
			bits |= 1 << 63
		} else {
			bits = ^bits
		}
		return fmt.Sprintf("%s%016x", tagNumber, bits)
	}
	return tagNone
}

// kindBounds returns the texts between which the encodings of all values of the kind of v are.
func kindBounds(v any) (from, to string) {
	switch v.(type) {
	case bool:
		return tagFalse, tagNumber
	case string:
		return tagText, tagEnd
	}
	return tagNumber, tagText
}

// after returns what is behind all sort keys that begin with an encoding, and before all others that come later.
func after(encoding string) string {
	end := len(encoding) - 1 // a value ends with a character of ASCII
	return encoding[:end] + string(rune(encoding[end]+1))
}

// rowSort returns the sort key of a document's row in an index.
func rowSort(fields []string, text []byte, id string) string {
	var b strings.Builder
	for _, path := range fields {
		b.WriteString(encode(field.Value(text, path)))
	}
	return b.String() + separator + id
}

// rowsOfDocument returns the keys of a document's rows.
func rowsOfDocument(collection string, indexes [][]string, text []byte, id string) (keys []itemKey, err error) {
	for _, fields := range indexes {
		k := itemKey{rowsOf(collection, fields), rowSort(fields, text, id)}
		if len(k.sort) > maxSort {
			return nil, fault.New(fault.Invalid,
				"the values of %s and the id have %d bytes in the index; DynamoDB takes %d at most",
				strings.Join(fields, ", "), len(k.sort), maxSort)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// indexes returns the indexes of a collection: every beginning of a declared one, because a query may use a beginning,
// whose ties are in the order of ids.
func indexes(spec store.Spec) (all [][]string) {
	for _, i := range spec.Indexes {
		for n := 1; n <= len(i.Fields); n++ {
			if !slices.ContainsFunc(all, func(f []string) bool { return slices.Equal(f, i.Fields[:n]) }) {
				all = append(all, i.Fields[:n])
			}
		}
	}
	return all
}
