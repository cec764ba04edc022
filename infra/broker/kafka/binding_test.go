package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The source and the schema of a record in the binary mode stay as its producer has written them: they are identifiers.
func TestIdentifiersStay(t *testing.T) {
	const schema = "HTTPS://Example.com/x#"
	for _, source := range []string{"/empty#", "HTTP://Example.com/Foo", "/a%20b/../c?#", "urn:x"} {
		r := &kgo.Record{}
		for name, value := range map[string]string{
			"ce_specversion": "1.0", "ce_id": "1", "ce_type": "t", "ce_source": source, "ce_dataschema": schema,
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		e, err := decode(r, 1000)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if e.Source() != source || e.DataSchema() != schema {
			t.Errorf("got the source %q and the schema %q, want %q and %q", e.Source(), e.DataSchema(), source, schema)
		}
	}
}
