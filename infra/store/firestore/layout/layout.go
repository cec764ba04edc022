// Package layout is how documents lie in Firestore: the names of collections, documents and fields, and the indexes that
// the queries of a schema need. It does not know the client, so that who only wants the indexes does not link it.
//
// A document has these fields:
//
//	version  the port's version
//	data     the document itself, as the JSON text that it came as
//	keys     a map with the value of each field that an index needs, null where the document has none
//	layout   which state of the collection's indexes the keys are of
//	id       the document's id, where that is too long to name it
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
)

const (
	longest = 1500 // bytes of a name in Firestore
	kept    = 1400 // of an id that is longer, before its hash
	hashed  = ".~" // comes between the two; Name makes it nowhere else
)

// Collection is the name of a collection in Firestore.
func Collection(name string) (string, error) { return Name(name) }

// Name is the name in Firestore of the document with an id. Names sort as the ids do, by their bytes, but for ids of more than
// 1,400 bytes that begin alike. Most ids are their own names. Firestore refuses an empty name, a slash, "." and "..", and names
// that begin and end with two underscores, so that
//
//   - what is empty or begins with a byte below '0' has "-" before it,
//   - "." is ".d", and "/" is ".s",
//   - "__" at the beginning is "_^b", and "_^" is "_^a",
//   - of what is too long the end is a hash, and the document keeps its id; see ID.
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

// IsHash reports whether a name does not tell its id.
func IsHash(name string) bool { return strings.Contains(name, hashed) }

// IDOf is the id of the document with a name that is no hash.
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

// Key is the name of a field within Keys. Firestore refuses an empty name and those that begin and end with two underscores.
func Key(path string) string {
	if path == "" || path[0] == '_' || path[0] == '.' {
		return "." + path
	}
	return path
}

// Path is the way to a field's key, as Terraform and the console write it.
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

// Fields are those that a collection's indexes need, each once.
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
