package flag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/diegoholiveira/jsonlogic/v3"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The states of a flag.
const (
	Enabled  = "ENABLED"
	Disabled = "DISABLED" // its users get their own default
)

// Why an evaluation has its result, as OpenFeature names it.
const (
	ReasonStatic   = "STATIC"          // the flag has no targeting
	ReasonDefault  = "DEFAULT"         // the targeting chose nothing
	ReasonMatch    = "TARGETING_MATCH" // the targeting chose the variant
	ReasonDisabled = "DISABLED"
	ReasonError    = "ERROR"
)

// What was wrong with an evaluation, as OpenFeature names it.
const (
	CodeNotFound       = "FLAG_NOT_FOUND"
	CodeParseError     = "PARSE_ERROR"
	CodeTypeMismatch   = "TYPE_MISMATCH"
	CodeInvalidContext = "INVALID_CONTEXT"
	CodeGeneral        = "GENERAL"
)

// MaxSize is how many bytes the definition of one flag has at most.
const MaxSize = 32 << 10

// maxKey is how many bytes a key has at most.
const maxKey = 128

// CheckKey returns an error for a key that no flag may have: a key fits into a path and into the name of a metric.
func CheckKey(key string) error {
	const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if key == "" || len(key) > maxKey || !strings.Contains(alphanumeric, key[:1]) ||
		strings.ContainsFunc(key, func(c rune) bool { return !strings.ContainsRune(alphanumeric+"._-", c) }) {
		return fault.New(fault.Invalid,
			"invalid key %q: want 1 to 128 letters, digits, dots, hyphens and underscores, a letter or digit first", key)
	}
	return nil
}

// Flag is the definition of one flag. It must not be changed.
type Flag struct {
	State          string
	Variants       map[string]any // all of one type: bool, float64, string or map[string]any
	DefaultVariant string         // "": users of the flag have their own default
	Metadata       map[string]any

	targeting any // nil: none
}

// definition is a flag in flagd's JSON.
type definition struct {
	State          string         `json:"state"`
	Variants       map[string]any `json:"variants"`
	DefaultVariant *string        `json:"defaultVariant"`
	Targeting      any            `json:"targeting"`
	Metadata       map[string]any `json:"metadata"`
}

// Parse returns the flag of a definition in flagd's JSON. The error is fault.Invalid and names everything that is wrong
// with the definition.
func Parse(data []byte) (*Flag, error) {
	if len(data) > MaxSize {
		return nil, fault.New(fault.Invalid, "the definition has %d bytes: want %d at most", len(data), MaxSize)
	}
	var d definition
	if err := decode(data, &d); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid definition: %v", err)
	}
	if err := checkNames(data); err != nil {
		return nil, err
	}
	f := &Flag{State: d.State, Variants: d.Variants, Metadata: d.Metadata}
	if d.DefaultVariant != nil {
		f.DefaultVariant = *d.DefaultVariant
	}
	if m, ok := d.Targeting.(map[string]any); d.Targeting != nil && !(ok && len(m) == 0) {
		f.targeting = d.Targeting
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return f, nil
}

// checkNames returns an error for a definition with a member in another spelling. Package json would take it, whatever
// its case: State beside state, of which only one is then switched off.
func checkNames(definition []byte) error {
	members := map[string]json.RawMessage{}
	_ = json.Unmarshal(definition, &members) // it is an object, or null without members
	for name := range members {
		switch name {
		case "state", "variants", "defaultVariant", "targeting", "metadata":
		default:
			return fault.New(fault.Invalid, "invalid definition: unknown member %q", name)
		}
	}
	return nil
}

// decode decodes one JSON value without members that are not known.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the definition")
	}
	return nil
}

func (f *Flag) check() error {
	var details []fault.Detail
	at := func(location, message string, args ...any) {
		details = append(details, fault.Detail{Location: location, Message: fmt.Sprintf(message, args...)})
	}
	if f.State != Enabled && f.State != Disabled {
		at("state", "must be %s or %s", Enabled, Disabled)
	}
	if len(f.Variants) == 0 {
		at("variants", "must have one variant at least")
	}
	kinds := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.Variants)) {
		kind := kindOf(f.Variants[name])
		kinds[kind] = true
		if kind == "" {
			at("variants."+name, "must be a boolean, a number, a string or an object")
		}
		if name == "" {
			at("variants", "must not have an empty name")
		}
	}
	if len(kinds) > 1 {
		at("variants", "must all be of one type")
	}
	if _, ok := f.Variants[f.DefaultVariant]; !ok && f.DefaultVariant != "" {
		at("defaultVariant", "must be one of the variants")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Metadata)) {
		if kind := kindOf(f.Metadata[name]); kind == "" || kind == "object" {
			at("metadata."+name, "must be a boolean, a number or a string")
		}
	}
	if f.targeting != nil {
		checker(at).check(f.targeting, "targeting", "", 0)
	}
	if details == nil {
		return nil
	}
	return fault.New(fault.Invalid, "the flag is not valid").With(details...)
}

// kindOf returns the type of a variant; "" for one that no variant may have.
func kindOf(v any) string {
	switch v.(type) {
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case map[string]any:
		return "object"
	}
	return ""
}

// maxDepth is how deep a targeting may be nested.
const maxDepth = 64

// checker reports operations that do not exist, so that they are found when a flag is written and not when it is
// evaluated. It also reports those that could make an evaluation long or large without bound: what is done for each
// element of a list must not go through a list, nor make a value that is longer than the element.
type checker func(location, message string, args ...any)

// check checks a part of a targeting. each is the operation for whose elements the part is evaluated; "" for none.
func (at checker) check(rule any, path, each string, depth int) {
	if depth > maxDepth {
		at("targeting", "must be nested %d levels at most", maxDepth)
		return
	}
	switch rule := rule.(type) {
	case []any:
		for i, r := range rule {
			at.check(r, path+"["+strconv.Itoa(i)+"]", each, depth+1)
		}
	case map[string]any:
		if len(rule) != 1 {
			at(path, "must have one operation, has %d members", len(rule))
			return
		}
		for name, args := range rule {
			at.operation(name, args, path, each, depth)
		}
	}
}

func (at checker) operation(name string, args any, path, each string, depth int) {
	iterates := isIteration(name)
	switch {
	case !isOperation(name):
		at(path, "has the unknown operation %q", name)
		return
	case each != "" && (iterates || name == "cat" || name == "merge"):
		at(path, "must not have %s in what %s does for each element", name, each)
		return
	}
	path += "." + name
	if list, ok := args.([]any); ok && iterates && len(list) > 1 {
		at.check(list[1], path+"[1]", name, depth+2)
		args = slices.Delete(slices.Clone(list), 1, 2) // the list, and what reduce begins with
	}
	at.check(args, path, each, depth+1)
}

// Result is the result of an evaluation. Without a Variant the user of the flag takes its own default.
type Result struct {
	Value    any
	Variant  string
	Reason   string
	Metadata map[string]any

	Code    string // what was wrong; "": nothing
	Message string
}

// NotFound returns the result for a flag that does not exist.
func NotFound(key string) Result {
	return Result{Reason: ReasonError, Code: CodeNotFound, Message: "there is no flag " + strconv.Quote(key)}
}

// Evaluate returns the value of the flag for a context, whose values are those of JSON. The member targetingKey names
// whom the flag is evaluated for. The targeting also finds $flagd.flagKey and $flagd.timestamp, in seconds, there.
func (f *Flag) Evaluate(key string, context map[string]any, now time.Time) Result {
	r := Result{Metadata: f.Metadata}
	if f.State == Disabled {
		r.Reason = ReasonDisabled
		return r
	}
	variant, reason := f.DefaultVariant, ReasonStatic
	if f.targeting != nil {
		chosen, err := f.target(key, context, now)
		if err != nil {
			r.Reason, r.Code, r.Message = ReasonError, CodeGeneral, "the targeting failed: "+err.Error()
			return r
		}
		reason = ReasonDefault
		if chosen != nil {
			variant, reason = variantName(chosen), ReasonMatch
		}
	}
	if variant == "" && reason != ReasonMatch {
		r.Reason = ReasonDefault // that of the user
		return r
	}
	value, ok := f.Variants[variant]
	if !ok {
		r.Reason, r.Code = ReasonError, CodeGeneral
		r.Message = "the targeting chose " + strconv.Quote(variant) + ", which is no variant"
		return r
	}
	r.Value, r.Variant, r.Reason = value, variant, reason
	return r
}

// variantName returns the name of the variant that a targeting chose: true and false may stand for "true" and "false".
func variantName(chosen any) string {
	switch c := chosen.(type) {
	case string:
		return c
	case bool:
		return strconv.FormatBool(c)
	case float64:
		return strconv.FormatFloat(c, 'f', -1, 64)
	}
	return fmt.Sprintf("a %T", chosen) // its text may be very long
}

// target returns what the targeting chooses. A rule that makes the library panic is an error.
func (f *Flag) target(key string, context map[string]any, now time.Time) (chosen any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	data := make(map[string]any, len(context)+1)
	for name, v := range context {
		data[name] = asData(v)
	}
	data[flagdMember] = map[string]any{"flagKey": key, "timestamp": float64(now.Unix())}
	return jsonlogic.ApplyInterface(f.targeting, data)
}

// asData returns a value of a context without objects of one member. Some operations of the library evaluate what var
// has found, and take such an object for an operation: a caller could have any operation evaluated.
func asData(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = asData(v[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v)+1)
		for name := range v {
			object[name] = asData(v[name])
		}
		if len(object) == 1 {
			object["$data"] = nil
		}
		return object
	}
	return v
}
