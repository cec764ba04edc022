package inventory_test

import (
	"testing"

	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// The stock adds up whatever happens on the way of three orders: one shipped, one released, one refused.
func TestStockUnderFaults(t *testing.T) {
	functiontest.UnderFaults(t, inventory.New, func(h *functiontest.Harness) {
		count(h, "apple", 5)
		count(h, "pear", 3)
		h.MustDeliver(reserve("o1", of("apple", 2), of("pear", 1)), reserve("o2", of("apple", 3)))
		h.MustDeliver(reserve("o3", of("pear", 3)), release("o2"), ship("o1"))
		wantStock(h, "apple", "3/0/2/5")
		wantStock(h, "pear", "2/0/1/3")
		h.MustDeliver(release("o4")) // overtakes its reserve
		h.MustDeliver(reserve("o4", of("pear", 1)))
		wantStock(h, "pear", "2/0/1/3")
	})
}
