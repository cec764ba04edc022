package pubsubevent_test

import (
	"maps"
	"testing"

	"github.com/ebb-dev/ebb/infra/internal/pubsubevent"
)

func message(attributes map[string]string) pubsubevent.Message {
	all := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
	maps.Copy(all, attributes)
	return pubsubevent.Message{Data: []byte("\xff"), Attributes: all}
}

// The source and the schema of a message in the binary mode stay as its sender has written them: they are identifiers.
func TestIdentifiersStay(t *testing.T) {
	const schema = "HTTPS://Example.com/x#"
	for _, source := range []string{"/empty#", "HTTP://Example.com/Foo", "/a%20b/../c?#", "urn:x"} {
		e, err := pubsubevent.Decode(message(map[string]string{"ce-source": source, "ce-dataschema": schema}))
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if e.Source() != source || e.DataSchema() != schema {
			t.Errorf("got the source %q and the schema %q, want %q and %q", e.Source(), e.DataSchema(), source, schema)
		}
	}
}

// An event of version 0.3 is read as one of 1.0.
func TestVersion03(t *testing.T) {
	e, err := pubsubevent.Decode(message(map[string]string{
		"ce-specversion": "0.3", "ce-schemaurl": "https://example.com/x", "Content-Type": "image/png",
	}))
	if err != nil || e.SpecVersion() != "1.0" || e.DataSchema() != "https://example.com/x" ||
		e.DataContentType() != "image/png" || string(e.Data()) != "\xff" {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, attributes := range map[string]map[string]string{
		"an attribute that comes twice":   {"ce-subject": "a", "CE-Subject": "b"},
		"a content type that comes twice": {"content-type": "text/plain", "Content-Type": "image/png"},
		"another version":                 {"ce-specversion": "2.0"},
		"an empty subject":                {"ce-subject": ""},
		"a time that is none":             {"ce-time": "yesterday"},
		"no id":                           {"ce-id": ""},
	} {
		if e, err := pubsubevent.Decode(message(attributes)); err == nil {
			t.Errorf("%s: got %v", name, e)
		}
	}
}
