package catalog

// Sample is a product for an empty shop, with the stock it starts with.
type Sample struct {
	Name      string
	Price     Money
	Available int
}

// Samples are what a shop on a laptop begins with. The host adds them through the API, like anybody else.
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
