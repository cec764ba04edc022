package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// ToJSON encodes an event as AppendJSON does.
func ToJSON(e ce.Event) ([]byte, error) {
	return AppendJSON(make([]byte, 0, 512+len(e.DataEncoded)), &e)
}

// AppendJSON appends the event to b in CloudEvents' structured JSON format, version 1.0. The result is valid JSON
// whatever the data is: data that is not what its content type says, or that has no content type, is in data_base64,
// so that FromJSON returns the same bytes. AppendJSON returns an error for an event without attributes and for an
// extension of a type that CloudEvents does not have.
func AppendJSON(b []byte, e *ce.Event) ([]byte, error) {
	if e.Context == nil {
		return nil, errors.New("an event without attributes cannot be encoded")
	}
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		c = e.Context.AsV1()
	}
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendText(b, c.ID)
	b = appendMember(b, "source", c.Source.String())
	b = appendMember(b, "type", c.Type)
	if c.Subject != nil {
		b = appendMember(b, "subject", *c.Subject)
	}
	if c.DataContentType != nil {
		b = appendMember(b, "datacontenttype", *c.DataContentType)
	}
	if c.DataSchema != nil {
		b = appendMember(b, "dataschema", c.DataSchema.String())
	}
	if c.Time != nil {
		b = appendMember(b, "time", c.Time.String())
	}
	b = appendData(b, e, c.DataContentType)
	names := make([]string, 0, len(c.Extensions))
	for name := range c.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var err error
		if b, err = appendExtension(b, name, c.Extensions[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendText(b, value)
}

// appendText appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] != '"' && s[i] != '\\' && s[i] < utf8.RuneSelf
	}
	if !plain {
		quoted, _ := json.Marshal(s) // a string always marshals
		return append(b, quoted...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendData(b []byte, e *ce.Event, contentType *string) []byte {
	switch {
	case e.DataEncoded == nil:
		return b
	case contentType == nil || e.DataBase64:
	case isJSON(*contentType) && portable(e.DataEncoded):
		b = append(b, `,"data":`...)
		return append(b, e.DataEncoded...)
	case !isJSON(*contentType) && utf8.Valid(e.DataEncoded):
		return appendMember(b, "data", string(e.DataEncoded))
	}
	b = append(b, `,"data_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.DataEncoded)
	return append(b, '"')
}

// maxNesting is the depth of JSON data up to which every store and reader takes it inside of a document.
const maxNesting = 1000

// portable reports whether data is a JSON value that can be part of a larger document.
func portable(data []byte) bool {
	return json.Valid(data) && utf8.Valid(data) && (len(data) < 2*maxNesting || nesting(data) <= maxNesting)
}

// nesting returns how deeply valid JSON is nested.
func nesting(data []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func appendExtension(b []byte, name string, value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return appendMember(b, name, v), nil
	case bool, int32:
		b = append(b, ',')
		b = appendText(b, name)
		b = append(b, ':')
		if n, ok := v.(int32); ok {
			return strconv.AppendInt(b, int64(n), 10), nil
		}
		return strconv.AppendBool(b, v.(bool)), nil
	case nil:
		return nil, fmt.Errorf("extension %s has no value", name)
	}
	canonical, err := Canonical(value)
	if err != nil {
		return nil, fmt.Errorf("extension %s: %w", name, err)
	}
	switch canonical.(type) {
	case bool, int32, string:
		return appendExtension(b, name, canonical)
	}
	text, err := types.Format(canonical)
	if err != nil {
		return nil, fmt.Errorf("extension %s: %w", name, err)
	}
	return appendMember(b, name, text), nil
}

// Canonical returns the value of an extension in the type that the SDK has for its CloudEvents type: string, bool,
// int32, []byte, types.URI, types.URIRef or types.Timestamp. Unlike the SDK it refuses a number that is not whole
// instead of cutting it.
func Canonical(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, errors.New("it has no value")
	case float64:
		if v != float64(int32(v)) {
			return nil, fmt.Errorf("%v is not an integer of 32 bits", v)
		}
	case float32:
		return Canonical(float64(v))
	}
	return types.Validate(value)
}

// FromJSON decodes one event in CloudEvents' structured JSON format, version 1.0 or 0.3, which may be from an untrusted
// sender. It checks the form of every attribute; Valid checks that none is missing. Data without a content type is
// JSON, and the event gets that type. A member whose value is null is as if it were missing, except data. The event
// shares no memory with the JSON.
func FromJSON(data []byte) (ce.Event, error) {
	members, err := membersOf(data)
	if err != nil {
		return ce.Event{}, err
	}
	version, err := textOf(members["specversion"])
	switch {
	case err != nil:
		return ce.Event{}, fmt.Errorf("specversion: %w", err)
	case version == ce.CloudEventsVersionV03:
		return fromOldJSON(data)
	case version != ce.CloudEventsVersionV1:
		return ce.Event{}, fmt.Errorf("invalid specversion %.20q: want 1.0", version)
	}
	delete(members, "specversion")
	c := &ce.EventContextV1{}
	e := ce.Event{Context: c}
	content := map[string]json.RawMessage{}
	for name, value := range members {
		if name == "data" || name == "data_base64" {
			content[name] = value
			continue
		}
		if string(value) == "null" {
			continue
		}
		if err := setMember(c, name, value); err != nil {
			return ce.Event{}, fmt.Errorf("%.50s: %w", name, err)
		}
	}
	if err := setData(&e, c, content["data"], content["data_base64"]); err != nil {
		return ce.Event{}, err
	}
	return e, nil
}

// membersOf returns the members of a JSON object, each of which may come once.
func membersOf(data []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("the JSON is not UTF-8")
	}
	if !json.Valid(data) {
		return nil, errors.New("it is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("the JSON is not an object")
	}
	members := make(map[string]json.RawMessage, 12)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("duplicate member %.50q", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		members[name] = value
	}
	return members, nil
}

// textOf returns the text of a JSON string.
func textOf(value json.RawMessage) (string, error) {
	if len(value) == 0 || value[0] != '"' {
		return "", errors.New("it is not a string")
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", err
	}
	// The decoder has replaced a half of a surrogate pair by U+FFFD.
	if strings.ContainsRune(text, utf8.RuneError) && !bytes.ContainsRune(value, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(value), []byte(`\ufffd`)) {
		return "", errors.New("it is not valid Unicode")
	}
	return text, nil
}

// setMember sets an attribute or an extension.
func setMember(c *ce.EventContextV1, name string, value json.RawMessage) error {
	if !slices.Contains(stringAttributes, name) {
		extension, err := extensionOf(value)
		if err != nil {
			return err
		}
		if _, twice := c.Extensions[strings.ToLower(name)]; twice {
			return errors.New("it comes twice")
		}
		return c.SetExtension(name, extension)
	}
	text, err := textOf(value)
	if err != nil {
		return err
	}
	return SetAttribute(c, name, text)
}

var stringAttributes = []string{"id", "source", "type", "subject", "time", "dataschema", "datacontenttype"}

// SetAttribute sets an attribute of CloudEvents 1.0, which is not an extension, from its text. It returns an error for
// a text that the attribute cannot have; an empty text is one for all but the required attributes, which Valid checks.
func SetAttribute(c *ce.EventContextV1, name, text string) error {
	switch name {
	case "id":
		c.ID = text
	case "type":
		c.Type = text
	case "source":
		u, err := ParseURI(text)
		c.Source = types.URIRef{URL: u}
		return err
	default:
		if text == "" {
			return errors.New("it is empty")
		}
	}
	switch name {
	case "subject":
		c.Subject = &text
	case "datacontenttype":
		c.DataContentType = &text
	case "dataschema":
		u, err := ParseURI(text)
		c.DataSchema = &types.URI{URL: u}
		return err
	case "time":
		t, err := types.ParseTimestamp(text)
		if err == nil {
			err = checkTime(t.Time)
		}
		c.Time = t
		return err
	}
	return nil
}

func extensionOf(value json.RawMessage) (any, error) {
	switch value[0] {
	case '"':
		return textOf(value)
	case 't', 'f':
		return value[0] == 't', nil
	case '{', '[':
		return nil, errors.New("it is neither a string, a number nor a boolean")
	}
	n, err := strconv.ParseInt(string(value), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%.50s is not an integer of 32 bits", value)
	}
	return int32(n), nil
}

func setData(e *ce.Event, c *ce.EventContextV1, data, inBase64 json.RawMessage) error {
	if string(inBase64) == "null" {
		inBase64 = nil
	}
	switch {
	case data != nil && inBase64 != nil:
		return errors.New("it has both data and data_base64")
	case inBase64 != nil:
		text, err := textOf(inBase64)
		if err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		if e.DataEncoded, err = base64.StdEncoding.DecodeString(text); err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		e.DataBase64 = true
	case data == nil:
	case c.DataContentType == nil:
		contentType := ContentType
		c.DataContentType, e.DataEncoded = &contentType, data
	case isJSON(*c.DataContentType):
		e.DataEncoded = data
	case string(data) == "null":
	default:
		text, err := textOf(data)
		if err != nil {
			return fmt.Errorf("data of type %.50s: %w", *c.DataContentType, err)
		}
		e.DataEncoded = []byte(text)
	}
	return nil
}

// fromOldJSON decodes an event of version 0.3. The SDK panics at some JSON, such as one with a member that is not a
// string where it expects one.
func fromOldJSON(data []byte) (e ce.Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = ce.Event{}, fmt.Errorf("the JSON is not an event: %v", p)
		}
	}()
	err = e.UnmarshalJSON(data)
	return e, err
}

// isJSON reports whether data of the content type is JSON: its subtype is json or ends with +json. Without a content
// type it is, as in the JSON format of CloudEvents.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == ContentType {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json"))
}
