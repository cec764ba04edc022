package editdistance

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"dev", "dev", 0}, {"dev", "", 3}, {"dev", "depv", 1}, {"dev", "edv", 1}, {"dev", "bev", 1},
		{"kitten", "sitting", 3},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// A word that is far from every other has no nearest one.
func TestNearest(t *testing.T) {
	words := []string{"orders.placed", "orders.confirmed", "payments.captured"}
	for typed, want := range map[string]string{
		"orders.placd": "orders.placed", "order.confirmed": "orders.confirmed", "payment.captured": "payments.captured",
		"clock": "", "": "",
	} {
		if got := Nearest(typed, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", typed, got, want)
		}
	}
}
