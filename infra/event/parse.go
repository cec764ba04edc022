package event

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// maxDepth limits how deeply data may be nested, so that malicious data cannot use up the stack.
const maxDepth = 200

// parser reads JSON text. The path of a violation is built from the inside out while it is returned, so that a valid
// event costs nothing for it.
type parser struct {
	raw []byte
	at  int
}

func (p *parser) syntax(what string) *Violation { return violationf("%s (at byte %d)", what, p.at) }

func (p *parser) space() {
	for p.at < len(p.raw) {
		switch p.raw[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space; 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.at < len(p.raw) {
		return p.raw[p.at]
	}
	return 0
}

func (p *parser) take(c byte) bool {
	if p.peek() == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) expected(want string) *Violation {
	if p.peek() == 0 {
		return p.syntax("is missing: the JSON ends here")
	}
	return violationf("must be %s, is %s", want, p.found())
}

func (p *parser) found() string {
	switch c := p.peek(); {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't', c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-', c >= '0' && c <= '9':
		return "a number"
	}
	return "not JSON"
}

// members reads an object and calls each at the value of every name.
func (p *parser) members(depth int, each func(name []byte) *Violation) *Violation {
	if depth > maxDepth {
		return violationf("is nested too deep")
	}
	if !p.take('{') {
		return p.expected("an object")
	}
	if p.take('}') {
		return nil
	}
	for {
		if p.peek() != '"' {
			return p.syntax("a name is missing")
		}
		name, v := p.quoted()
		if v != nil {
			return v
		}
		if !p.take(':') {
			return p.syntax("a colon is missing")
		}
		if v := each(name); v != nil {
			return v.in("." + string(name))
		}
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return p.syntax("a comma is missing")
		}
	}
}

// elements reads an array and calls each at every value.
func (p *parser) elements(depth int, each func(i int) *Violation) *Violation {
	if depth > maxDepth {
		return violationf("is nested too deep")
	}
	if !p.take('[') {
		return p.expected("an array")
	}
	if p.take(']') {
		return nil
	}
	for i := 0; ; i++ {
		if v := each(i); v != nil {
			return v.in("[" + strconv.Itoa(i) + "]")
		}
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return p.syntax("a comma is missing")
		}
	}
}

func (p *parser) skip(depth int) *Violation {
	switch c := p.peek(); c {
	case '{':
		return p.members(depth, func([]byte) *Violation { return p.skip(depth + 1) })
	case '[':
		return p.elements(depth, func(int) *Violation { return p.skip(depth + 1) })
	case '"':
		_, v := p.quoted()
		return v
	case 't', 'f', 'n':
		if p.word("true") || p.word("false") || p.word("null") {
			return nil
		}
	default:
		if n := numberLength(p.raw[p.at:]); n > 0 {
			p.at += n
			return nil
		}
	}
	return p.syntax("is not JSON")
}

func (p *parser) word(w string) bool {
	if len(p.raw)-p.at >= len(w) && string(p.raw[p.at:p.at+len(w)]) == w {
		p.at += len(w)
		return true
	}
	return false
}

// parseInt accepts digits only: readers do not take 1.0 and 1e3 for integers.
func parseInt(digits []byte) (int64, bool) {
	if len(digits) > 18 {
		n, err := strconv.ParseInt(string(digits), 10, 64)
		return n, err == nil
	}
	n, sign := int64(0), int64(1)
	for i, c := range digits {
		switch {
		case c == '-' && i == 0:
			sign = -1
		case c < '0' || c > '9':
			return 0, false
		default:
			n = n*10 + int64(c-'0')
		}
	}
	return sign * n, true
}

// numberLength returns the length in bytes of the JSON number at the beginning; 0 if none begins there.
func numberLength(b []byte) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return 0
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

// quoted reads a string. The result may share memory with the input: it is valid until the input changes.
func (p *parser) quoted() ([]byte, *Violation) {
	p.at++
	from := p.at
	ascii := true
	for ; p.at < len(p.raw); p.at++ {
		switch c := p.raw[p.at]; {
		case c == '"':
			text := p.raw[from:p.at]
			if !ascii && !utf8.Valid(text) {
				return nil, p.syntax("is not valid UTF-8")
			}
			p.at++
			return text, nil
		case c == '\\':
			return p.escaped(from)
		case c < ' ':
			return nil, p.syntax("holds a bare control character")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, p.syntax("ends within a string")
}

// escaped reads a string that has an escape, which is rare. It finds the end and leaves the unescaping to
// encoding/json, after refusing what that would replace silently.
func (p *parser) escaped(from int) ([]byte, *Violation) {
	for ; p.at < len(p.raw) && p.raw[p.at] != '"'; p.at++ {
		if p.raw[p.at] == '\\' {
			p.at++
		}
	}
	if p.at >= len(p.raw) {
		p.at = len(p.raw)
		return nil, p.syntax("ends within a string")
	}
	p.at++
	whole := p.raw[from-1 : p.at]
	if !utf8.Valid(whole) || loneSurrogate(whole) {
		return nil, p.syntax("is not valid Unicode")
	}
	var text string
	if err := json.Unmarshal(whole, &text); err != nil {
		return nil, p.syntax("holds a wrong escape or a bare control character")
	}
	return []byte(text), nil
}

// loneSurrogate reports whether \u escapes name half a character.
func loneSurrogate(s []byte) bool {
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		if s[i] != 'u' {
			continue
		}
		switch half(s, i+1) {
		case 'h':
			if i+6 >= len(s) || s[i+5] != '\\' || s[i+6] != 'u' || half(s, i+7) != 'l' {
				return true
			}
			i += 6
		case 'l':
			return true
		}
	}
	return false
}

// half returns 'h' if the four hex digits name a high surrogate, 'l' for a low one, and 0 for neither.
func half(s []byte, at int) byte {
	if at+4 > len(s) {
		return 0
	}
	n, err := strconv.ParseUint(string(s[at:at+4]), 16, 32)
	switch {
	case err != nil || n < 0xD800 || n > 0xDFFF:
		return 0
	case n < 0xDC00:
		return 'h'
	}
	return 'l'
}
