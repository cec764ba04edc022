package gateway

import (
	"encoding/json"
	"net/http"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// settingsRoute is the operation by which staff see the settings of the gateway, as they see those of each function.
var settingsRoute = manifest.Route{
	Method: http.MethodGet, Path: "/api/settings/gateway", Access: manifest.AccessRoles, Roles: auth.Viewers(),
}

// addSettings adds the operation.
func (g *Gateway) addSettings(t *table, env environment) error {
	return t.tree.add(g.newRoute("", env.apply(settingsRoute), g.showSettings, env))
}

// showSettings answers with the settings of this process.
func (g *Gateway) showSettings(x *Exchange) {
	var told struct {
		Items   []config.Setting `json:"items"`
		Refused string           `json:"refused,omitempty"`
	}
	told.Items = []config.Setting{}
	if g.cfg.Settings != nil {
		r := g.cfg.Settings()
		told.Items, told.Refused = append(told.Items, r.Settings...), r.Refused
	}
	x.Writer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(x.Writer).Encode(told)
}
