package function

import (
	"context"
	"net/http"
	"slices"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Staff see which settings an instance of the function has and where each comes from, as GET /api/settings/FUNCTION
// answers it, for the console and for the command "ebb config". A function that has operations for staff serves it. The
// answer is that of one instance, which is started for it if none runs.

// settingsPath begins the paths of the settings of functions.
const settingsPath = "/api/settings/"

type settingsOutput struct {
	Body struct {
		Items   []config.Setting `json:"items"`
		Refused string           `json:"refused,omitempty" doc:"Why the last change of a file or of Consul is not taken over; missing: it is."`
	}
}

// serveSettings declares the operation for staff.
func (f *Function) serveSettings() {
	Serve(f, Operation{
		Method: http.MethodGet, Path: settingsPath + f.name, Tag: "settings", Access: Only(auth.Viewers()...),
		Scope:       manifest.NoKey,
		Summary:     "Show the settings of " + f.name,
		Description: "Those of the instance that answers, with their origin. Secrets are masked.",
	}, func(context.Context, *Tx, *struct{}) (*settingsOutput, error) {
		r := f.env.Settings()
		out := &settingsOutput{}
		out.Body.Items, out.Body.Refused = r.Settings, r.Refused
		return out, nil
	})
}

// declaredSettings returns the settings that the function itself declares. It stands in for a host that tells none.
func (f *Function) declaredSettings() config.Report {
	declared := slices.Concat(f.settings, f.personalSettings())
	return config.ReportOf(manifest.Variables(declared), config.Origin{Name: config.FromEnvironment, Lookup: f.env.Lookup})
}
