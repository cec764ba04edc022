// Package cesql implements the CloudEvents SQL Expression Language 1.0 for filters: an expression is compiled once and
// evaluated for each event. The language gives a value even after an error; here an expression with an error has no
// value, so the event does not pass.
//
// It replaces the evaluator of the CloudEvents SDK, which evaluates AND, OR and XOR from right to left, ignores integer
// overflow and counts bytes instead of characters; see docs/adr/20261124-own-cesql.md.
package cesql

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Expr is a compiled expression. It may be used concurrently.
type Expr struct{ eval node }

// Attributes returns an attribute of an event as a string, an int32 or a bool.
type Attributes func(name string) (value any, ok bool)

type node func(Attributes) (any, error)

// Match reports whether the expression evaluates to the boolean true for an event. It returns false after an error.
func (e Expr) Match(a Attributes) bool {
	v, err := e.eval(a)
	return err == nil && v == true
}

// Compile parses an expression. It refuses unknown functions.
func Compile(text string) (Expr, error) {
	tokens, err := scan(text)
	if err != nil {
		return Expr{}, err
	}
	p := &parser{tokens: tokens}
	n, err := p.logic()
	if err != nil {
		return Expr{}, err
	}
	if t := p.peek(); t.kind != end {
		return Expr{}, fmt.Errorf("unexpected %q after the expression", t.text)
	}
	return Expr{n}, nil
}

type kind uint8

const (
	end     kind = iota
	symbol       // ( ) , and operators
	keyword      // in upper case
	word         // an attribute or a function
	number       // digits
	quoted       // a string without its quotes
)

type token struct {
	kind kind
	text string
}

var keywords = map[string]bool{
	"AND": true, "OR": true, "XOR": true, "NOT": true,
	"LIKE": true, "EXISTS": true, "IN": true, "TRUE": true, "FALSE": true,
}

// scan splits the text into tokens.
func scan(text string) (tokens []token, err error) {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '\'' || c == '"':
			n := closing(text[i:], c)
			if n < 0 {
				return nil, errors.New("unterminated string")
			}
			quote := string(c)
			tokens = append(tokens, token{quoted, strings.ReplaceAll(text[i+1:i+n], `\`+quote, quote)})
			i += n + 1
		case alphanumeric(c):
			n := i
			for n < len(text) && (alphanumeric(text[n]) || text[n] == '_') {
				n++
			}
			tokens = append(tokens, named(text[i:n]))
			i = n
		default:
			n := 1
			if i+1 < len(text) && strings.Contains("!= <> <= >=", text[i:i+2]) && text[i+1] != ' ' {
				n = 2
			}
			if !strings.Contains("( ) , + - * / % = < > != <> <= >=", text[i:i+n]) {
				return nil, fmt.Errorf("unknown operator %q", text[i:i+n])
			}
			tokens = append(tokens, token{symbol, text[i : i+n]})
			i += n
		}
	}
	return tokens, nil
}

// closing returns the index of the quote that ends the string at the beginning of the text, or -1.
func closing(text string, quote byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case quote:
			return i
		}
	}
	return -1
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func named(text string) token {
	upper := strings.ToUpper(text)
	switch {
	case strings.Trim(text, "0123456789") == "":
		return token{number, text}
	case keywords[upper]:
		return token{keyword, upper}
	}
	return token{word, text}
}

// maxDepth limits the nesting of expressions, and so the use of the stack.
const maxDepth = 200

type parser struct {
	tokens []token
	depth  int
}

func (p *parser) peek() token {
	if len(p.tokens) == 0 {
		return token{end, "the end"}
	}
	return p.tokens[0]
}

func (p *parser) take() token {
	t := p.peek()
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is one of the operators or keywords.
func (p *parser) accept(texts ...string) (string, bool) {
	t := p.peek()
	for _, text := range texts {
		if (t.kind == symbol || t.kind == keyword) && t.text == text {
			p.take()
			return text, true
		}
	}
	return "", false
}

func (p *parser) expect(text string) error {
	if _, ok := p.accept(text); !ok {
		return fmt.Errorf("missing %q before %q", text, p.peek().text)
	}
	return nil
}

// binary parses operators of one precedence from left to right.
func (p *parser) binary(operand func() (node, error), operators ...string) (node, error) {
	left, err := operand()
	for err == nil {
		op, ok := p.accept(operators...)
		if !ok {
			return left, nil
		}
		var right node
		if right, err = operand(); err == nil {
			left = combine(op, left, right)
		}
	}
	return nil, err
}

func (p *parser) logic() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("expression nested too deeply")
	}
	defer func() { p.depth-- }()
	return p.binary(p.comparison, "AND", "OR", "XOR")
}

func (p *parser) comparison() (node, error) {
	return p.binary(p.sum, "=", "!=", "<>", "<=", ">=", "<", ">")
}

func (p *parser) sum() (node, error)     { return p.binary(p.product, "+", "-") }
func (p *parser) product() (node, error) { return p.binary(p.postfix, "*", "/", "%") }

// postfix parses a unary expression with any LIKE and IN after it.
func (p *parser) postfix() (node, error) {
	left, err := p.unary()
	for err == nil {
		negated := false
		if p.peek() == (token{keyword, "NOT"}) {
			p.take()
			negated = true
		}
		op, ok := p.accept("LIKE", "IN")
		switch {
		case !ok && negated:
			return nil, fmt.Errorf("missing LIKE or IN after NOT, before %q", p.peek().text)
		case !ok:
			return left, nil
		case op == "LIKE":
			left, err = p.like(left)
		default:
			left, err = p.in(left)
		}
		if negated && err == nil {
			left = negate(left)
		}
	}
	return nil, err
}

func (p *parser) like(left node) (node, error) {
	t := p.take()
	if t.kind != quoted {
		return nil, fmt.Errorf("invalid pattern %q of LIKE: want a string", t.text)
	}
	return like(left, pattern(t.text)), nil
}

func (p *parser) in(left node) (node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	set, err := p.list()
	if err == nil && len(set) == 0 {
		err = errors.New("empty set of IN")
	}
	return in(left, set), err
}

// list parses expressions up to the closing bracket.
func (p *parser) list() (out []node, err error) {
	if _, ok := p.accept(")"); ok {
		return nil, nil
	}
	for {
		n, err := p.logic()
		if err != nil {
			return nil, err
		}
		out = append(out, n)
		if _, more := p.accept(","); !more {
			return out, p.expect(")")
		}
	}
}

func (p *parser) unary() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("expression nested too deeply")
	}
	defer func() { p.depth-- }()
	op, _ := p.accept("NOT", "-", "+", "EXISTS")
	switch op {
	case "NOT":
		n, err := p.unary()
		return negate(n), err
	case "-":
		if p.peek().kind == number {
			return integer("-" + p.take().text)
		}
		n, err := p.unary()
		return minus(n), err
	case "+":
		if p.peek().kind != number {
			return nil, fmt.Errorf("unexpected + before %q: want a number", p.peek().text)
		}
		return integer(p.take().text)
	case "EXISTS":
		name, err := p.attribute()
		return exists(name), err
	}
	return p.primary()
}

func (p *parser) attribute() (string, error) {
	t := p.take()
	if t.kind != word || strings.Contains(t.text, "_") {
		return "", fmt.Errorf("invalid attribute name %q", t.text)
	}
	return strings.ToLower(t.text), nil
}

func integer(text string) (node, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("integer %s does not fit in 32 bits", text)
	}
	return constant(int32(n)), nil
}

func (p *parser) primary() (node, error) {
	switch t := p.peek(); {
	case t.kind == number:
		return integer(p.take().text)
	case t.kind == quoted:
		return constant(p.take().text), nil
	case t.kind == keyword && (t.text == "TRUE" || t.text == "FALSE"):
		return constant(p.take().text == "TRUE"), nil
	case t == token{symbol, "("}:
		p.take()
		n, err := p.logic()
		if err == nil {
			err = p.expect(")")
		}
		return n, err
	case t.kind == word && len(p.tokens) > 1 && p.tokens[1] == token{symbol, "("}:
		p.tokens = p.tokens[2:]
		args, err := p.list()
		if err != nil {
			return nil, err
		}
		return call(strings.ToUpper(t.text), args)
	case t.kind == word:
		name, err := p.attribute()
		return attribute(name), err
	default:
		return nil, fmt.Errorf("unexpected %q", t.text)
	}
}
