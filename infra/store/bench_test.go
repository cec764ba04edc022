package store_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
)

// BenchmarkPut measures Put of a document to which another version may have added members.
func BenchmarkPut(b *testing.B) {
	type big struct {
		ID, Name, Street, City, Country, Status, Reason string
		Lines                                           []item
		Total, Tax                                      int
	}
	c := store.NewCollection[big]("items")
	d := open()
	v := big{
		"0190", "Ada Lovelace", "1 Long Street", "London", "GB", "confirmed", "", []item{{"a", 1}, {"b", 2}, {"c", 3}}, 1999,
		300,
	}
	tx := store.Begin(d)
	if err := c.Put(ctx, tx, "a", v); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Put(ctx, tx, "a", v); err != nil {
			b.Fatal(err)
		}
	}
}
