package event_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
)

// Each incompatible change is named, and no other is.
func TestCompatible(t *testing.T) {
	const old = `{"type":"object","required":["a","n"],"properties":{
		"a":{"type":"string","minLength":1,"maxLength":9,"pattern":"x"},
		"n":{"type":"integer","minimum":1,"maximum":5},
		"e":{"type":"string","enum":["p","q"],"format":"email"},
		"o":{"type":"object"},
		"l":{"type":"array","maxItems":3,"items":{"type":"object","properties":{"d":{"type":"string"}}}},
		"m":{"type":"object","additionalProperties":{"type":"string"}}}}`
	tests := map[string]struct{ from, to, want string }{
		"nothing":         {``, ``, ``},
		"a word of doc":   {`"type":"string","minLength"`, `"description":"x","type":"string","minLength"`, ``},
		"optional field":  {`"o":`, `"z":{"type":"string"},"o":`, ``},
		"optional deep":   {`"d":`, `"z":{"type":"string"},"d":`, ``},
		"removed":         {`"o":{"type":"object"},`, ``, `$.o was removed`},
		"removed deep":    {`{"d":{"type":"string"}}`, `{}`, `$.l[].d was removed`},
		"new required":    {`"required":["a"`, `"required":["a","z"`, ``},
		"became required": {`["a","n"]`, `["a","n","e"]`, `$.e became required`},
		"became optional": {`["a","n"]`, `["a"]`, `$.n became optional`},
		"type":            {`"n":{"type":"integer"`, `"n":{"type":"string"`, `$.n changed its type from integer to string`},
		"type deep":       {`{"d":{"type":"string"}`, `{"d":{"type":"boolean"}`, `$.l[].d changed its type`},
		"type to any":     {`"o":{"type":"object"}`, `"o":{}`, `$.o changed its type from object to any`},
		"type in a map": {
			`"additionalProperties":{"type":"string"}`,
			`"additionalProperties":{"type":"integer"}`,
			`$.m.* changed its type`,
		},
		"map to anything": {`,"additionalProperties":{"type":"string"}`, ``, `$.m.* was or is of any type`},
		"object gets known": {
			`"o":{"type":"object"}`,
			`"o":{"type":"object","properties":{}}`,
			`$.o changed between an object of known fields and any`,
		},
		"narrower minimum": {`"minimum":1`, `"minimum":2`, `$.n has a narrower minimum (1, now 2)`},
		"wider minimum":    {`"minimum":1`, `"minimum":0`, `$.n has a wider minimum`},
		"narrower maximum": {`"maximum":5`, `"maximum":4`, `$.n has a narrower maximum`},
		"wider maximum":    {`"maximum":5`, `"maximum":6`, `$.n has a wider maximum`},
		"no maximum":       {`,"maximum":5`, ``, `$.n has a wider maximum (5, now none)`},
		"new limit": {
			`"e":{"type":"string"`,
			`"e":{"type":"string","maxLength":3`,
			`$.e has a narrower maxLength (none, now 3)`,
		},
		"minLength": {`"minLength":1`, `"minLength":2`, `$.a has a narrower minLength`},
		"maxItems":  {`"maxItems":3`, `"maxItems":2`, `$.l has a narrower maxItems`},
		"pattern":   {`"pattern":"x"`, `"pattern":"y"`, `$.a changed its pattern`},
		"format":    {`"format":"email"`, `"format":"uuid"`, `$.e changed its format`},
		"enum less": {`["p","q"]`, `["p"]`, `$.e no longer allows "q"`},
		"enum more": {`["p","q"]`, `["p","q","r"]`, `$.e now allows "r"`},
		"no enum":   {`"enum":["p","q"],`, ``, `$.e changed between a list of values and any`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			today := strings.Replace(old, tt.from, tt.to, 1)
			if tt.from != "" && today == old {
				t.Fatalf("the schema has no %s", tt.from)
			}
			got := strings.Join(event.Compatible(schema(t, old), schema(t, today)), "\n")
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A new required field breaks every event that was emitted before.
func TestCompatibleNamesANewRequiredField(t *testing.T) {
	got := event.Compatible(
		schema(t, `{"type":"object","properties":{"a":{"type":"string"}}}`),
		schema(t, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":["b"]}`))
	if want := "$.b is new and required, and old events lack it"; len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func schema(t *testing.T, text string) *event.Schema {
	t.Helper()
	s, err := event.ParseSchema([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
