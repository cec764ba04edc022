package cli

import (
	"net/http"
	"testing"
)

// The command lists the schedules that the clock keeps.
func TestSchedules(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /api/schedules", 200, `{"items":[{"function":"reports","name":"nightly","cron":"0 3 * * *",
		"time_zone":"Europe/Berlin","missed":"once","next":"2026-01-02T03:00:00+01:00"}]}`)
	f.steps(t, map[string]step{
		"the list": {
			[]string{"schedules"}, 0, "reports   nightly   0 3 * * *  Europe/Berlin", "", "GET /api/schedules?limit=50",
		},
		"as JSON": {[]string{"schedules", "-o", "json"}, 0, `"missed":"once"`, "", "GET /api/schedules?limit=50"},
	})
}
