package catalog

// Sample is a product for an empty shop, with its initial stock.
type Sample struct {
	Name      string
	Price     Money
	Available int
}

// Samples returns the products of a local shop. The host adds them through the API, as any client would.
func Samples() []Sample {
	return []Sample{
		{"Notes on the Analytical Engine", Money{1999, "EUR"}, 100},
		{"Tide table, 2027", Money{1250, "EUR"}, 40},
		{"Brass barometer", Money{14900, "EUR"}, 12},
		{"Oilskin jacket", Money{8900, "EUR"}, 25},
		{"Sea salt, 500 g", Money{490, "EUR"}, 250},
		{"Last ship in a bottle", Money{4200, "EUR"}, 1},
	}
}
