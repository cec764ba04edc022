// Package layout defines the form of documents in Firestore: the names of collections, documents and fields, and the
// indexes of a schema's queries. It does not import the client, so that programs that need only the indexes do not link
// it.
//
// A document has these fields:
//
//	version  the port's version
//	data     the document itself, as its original JSON text
//	keys     a map with the value of each indexed field, null where the document has none
//	layout   the state of the collection's indexes that the keys belong to
//	id       the document's id, when that is too long for a name
//	last     the largest version that a document with this id had when it was deleted
//
// A document that was deleted leaves a mark, which has these fields:
//
//	last     as above
//	deleted  the time of the deletion
//	id       as above
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The fields of a document.
const (
	Version = "version"
	Data    = "data"
	Keys    = "keys"
	Layout  = "layout"
	ID      = "id"
	Last    = "last"
	Deleted = "deleted"
)

const (
	longest = 1500 // bytes of a name in Firestore
	kept    = 1400 // of a longer id, before its hash
	hashed  = ".~" // between the two; no other name contains it
)

// Collection returns the name of a collection in Firestore.
func Collection(name string) (string, error) { return Name(name) }

// Name returns the name in Firestore of the document with an id. Names sort as the ids do, by their bytes, except for
// ids of more than 1,400 bytes with the same beginning. Most ids are their own names. Firestore refuses an empty name,
// a slash, "." and "..", and names that begin and end with two underscores. So
//
//   - an id that is empty or begins with a byte below '0' gets "-" before it,
//   - "." becomes ".d", and "/" becomes ".s",
//   - "__" at the beginning becomes "_^b", and "_^" becomes "_^a",
//   - the end of an id that is too long becomes a hash, and the document stores the id; see ID.
func Name(id string) (string, error) {
	if !utf8.ValidString(id) {
		return "", fault.New(fault.Invalid, "the id %q is not UTF-8 text", id)
	}
	var b strings.Builder
	rest := id
	switch {
	case id == "", id[0] < '0':
		b.WriteByte('-')
	case strings.HasPrefix(id, "__"):
		b.WriteString("_^b")
		rest = id[2:]
	case strings.HasPrefix(id, "_^"):
		b.WriteString("_^a")
		rest = id[2:]
	}
	for i := range len(rest) {
		switch c := rest[i]; c {
		case '.':
			b.WriteString(".d")
		case '/':
			b.WriteString(".s")
		default:
			b.WriteByte(c)
		}
	}
	name := b.String()
	if len(name) <= longest {
		return name, nil
	}
	n := kept
	for !utf8.RuneStart(name[n]) {
		n--
	}
	sum := sha256.Sum256([]byte(id))
	return name[:n] + hashed + hex.EncodeToString(sum[:]), nil
}

// IsHash reports whether a name has a hash, so that the id is stored in the document.
func IsHash(name string) bool { return strings.Contains(name, hashed) }

// IDOf returns the id of a name without a hash.
func IDOf(name string) string {
	begin := ""
	switch {
	case strings.HasPrefix(name, "-"):
		name = name[1:]
	case strings.HasPrefix(name, "_^b"):
		begin, name = "__", name[3:]
	case strings.HasPrefix(name, "_^a"):
		begin, name = "_^", name[3:]
	}
	return begin + unescape.Replace(name)
}

var unescape = strings.NewReplacer(".d", ".", ".s", "/")

// Key returns the name of a field within Keys. Firestore refuses an empty name and names that begin and end with two
// underscores.
func Key(path string) string {
	if path == "" || path[0] == '_' || path[0] == '.' {
		return "." + path
	}
	return path
}

// Path returns the path of a field's key, as Terraform and the console write it.
func Path(path string) string {
	name := Key(path)
	if !simple.MatchString(name) {
		name = "`" + quote.Replace(name) + "`"
	}
	return Keys + "." + name
}

var (
	simple = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
	quote  = strings.NewReplacer("`", "\\`", `\`, `\\`)
)

// Fields returns the fields of a collection's indexes, each once.
func Fields(spec store.Spec) (paths []string) {
	for _, i := range spec.Indexes {
		for _, path := range i.Fields {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}
