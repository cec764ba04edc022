package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// The formats that -o takes.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

var formats = []string{formatTable, formatWide, formatJSON, formatYAML}

// output holds the output format of a command: -o, and the older --json.
type output struct {
	app    *app
	format formatValue
	json   bool
}

// define adds -o and --json. Lists are written one value per line in JSON, one document each in YAML.
func (o *output) define(a *app, f *pflag.FlagSet) {
	o.app, o.format = a, formatTable
	f.VarP(&o.format, "output", "o", "`format`: table, wide, json or yaml")
	f.BoolVar(&o.json, "json", false, "the same as -o json")
}

// completeFormats lets shells complete the value of -o.
func completeFormats(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// kind returns the chosen format.
func (o *output) kind() string {
	if o.json {
		return formatJSON
	}
	return string(o.format)
}

// wide reports whether a table has all its columns.
func (o *output) wide() bool { return o.kind() == formatWide }

// structured reports whether values are written rather than tables.
func (o *output) structured() bool { return o.kind() == formatJSON || o.kind() == formatYAML }

// item writes one value of a list: a line of JSON, or a document of YAML.
func (o *output) item(v any) error { return o.write(v, "") }

// one writes a value that stands alone: indented JSON, or YAML.
func (o *output) one(v any) error { return o.write(v, "  ") }

func (o *output) write(v any, indent string) error {
	raw, err := encodeJSON(v)
	if err != nil {
		return err
	}
	if o.kind() == formatYAML {
		separator := "---\n"
		if indent != "" {
			separator = ""
		}
		text, err := yamlOf(raw)
		if err != nil {
			return err
		}
		_, err = io.WriteString(o.app.Out, separator+string(text))
		return err
	}
	var b bytes.Buffer
	if indent == "" {
		err = json.Compact(&b, raw)
	} else {
		err = json.Indent(&b, raw, "", indent)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(o.app.Out, strings.TrimSpace(b.String()))
	return nil
}

func encodeJSON(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// formatValue is the value of -o.
type formatValue string

func (v *formatValue) String() string { return string(*v) }
func (v *formatValue) Type() string   { return "format" }

func (v *formatValue) Set(s string) error {
	if !slices.Contains(formats, s) {
		if near := editdistance.Nearest(s, formats); near != "" {
			return fmt.Errorf("unknown format; did you mean %s?", near)
		}
		return fmt.Errorf("unknown format (use %s)", strings.Join(formats, ", "))
	}
	*v = formatValue(s)
	return nil
}

// yamlOf returns JSON as YAML, its members in their order.
func yamlOf(raw []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	node, err := yamlNode(d)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(node); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value} }
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if v == '[' {
			n.Kind = yaml.SequenceNode
		}
		for d.More() { // an object's member names are tokens, like its values
			child, err := yamlNode(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := d.Token()
		return n, err
	case string:
		return scalar("!!str", v), nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return scalar("!!float", v.String()), nil
		}
		return scalar("!!int", v.String()), nil
	case bool:
		return scalar("!!bool", fmt.Sprint(v)), nil
	}
	return scalar("!!null", "null"), nil
}
