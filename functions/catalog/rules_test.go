package catalog_test

import (
	"testing"

	"github.com/ebb-dev/ebb/functions/catalog"
)

func TestCurrencies(t *testing.T) {
	for code, known := range map[string]bool{
		"EUR": true, "USD": true, "JPY": true, "AED": true, "ZWG": true, "XCG": true, "SLE": true,
		"": false, "eur": false, "EURO": false, "EU": false, "DEM": false, "HRK": false, "BGN": false, "XXX": false,
		"XTS": false, "XAU": false, "ABC": false, "R U": false, " EU": false, "   ": false,
	} {
		if got := catalog.KnownCurrency(code); got != known {
			t.Errorf("%q: known %v, want %v", code, got, known)
		}
	}
}

// RFC 9110: If-None-Match compares weakly, If-Match strongly.
func TestEntityTags(t *testing.T) {
	for _, c := range []struct {
		tags         string
		strong, weak bool
	}{
		{`"7"`, true, true},
		{`"6", "7"`, true, true},
		{`"6","7" `, true, true},
		{`*`, true, true},
		{`W/"7"`, false, true},
		{`7`, false, false},
		{`"77"`, false, false},
		{`"6"`, false, false},
		{``, false, false},
	} {
		if got := catalog.Listed(c.tags, 7, false); got != c.strong {
			t.Errorf("strong %s: got %v", c.tags, got)
		}
		if got := catalog.Listed(c.tags, 7, true); got != c.weak {
			t.Errorf("weak %s: got %v", c.tags, got)
		}
	}
}
