package static_test

import (
	"net/http"
	"testing"

	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/fault"
)

// A name that is listed has its instances, if only none; another is not found.
func TestInstances(t *testing.T) {
	d := static.Discovery{"users": static.Handler(http.NotFoundHandler()), "orders": nil}
	got, err := d.Instances(t.Context(), "users")
	if err != nil || len(got) != 1 || got[0].Handler == nil || got[0].ID == "" {
		t.Errorf("users: got %v, %v, want one instance", got, err)
	}
	if got, err := d.Instances(t.Context(), "orders"); err != nil || len(got) != 0 {
		t.Errorf("orders: got %v, %v, want no instance and no error", got, err)
	}
	if _, err = d.Instances(t.Context(), "payments"); !fault.Is(err, fault.NotFound) {
		t.Errorf("payments: got %v, want not found", err)
	}
}
