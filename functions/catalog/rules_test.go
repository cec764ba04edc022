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
