package function_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

type deskSettings struct {
	Room string `envconfig:"EBB_DESK_ROOM" default:"4" desc:"where it is"`
	Key  string `envconfig:"EBB_DESK_KEY" secret:"true"`
	Bell string `envconfig:"EBB_DESK_BELL" reload:"true"`
}

// newDesk declares a function with settings and an operation for staff.
func newDesk(env function.Env) (*function.Function, error) {
	f := function.New("desk", env)
	_, err := function.Configure[deskSettings](f)
	op := function.Operation{Method: "POST", Path: "/api/desks", Access: function.Only(auth.RoleAdmin)}
	function.Serve(f, op, func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil })
	return f, err
}

// Staff see the settings of a function with their origins, and no secret. Without a host that tells them they are those
// that the function declares.
func TestSettingsOfAFunction(t *testing.T) {
	h := functiontest.New(t, newDesk, functiontest.Set(map[string]string{"EBB_DESK_KEY": "hidden"}))
	const path = "/api/settings/desk"
	viewer := auth.Principal{Subject: "vera", Roles: []string{auth.RoleViewer}}
	var got struct {
		Items   []config.Setting
		Refused string
	}
	h.Call("GET", path, viewer, nil).Expect(200).JSON(&got)
	want := []config.Setting{
		{Variable: "EBB_DESK_ROOM", Value: "4", Origin: "default", Description: "where it is"},
		{Variable: "EBB_DESK_KEY", Value: "***", Origin: "environment"},
		{Variable: "EBB_DESK_BELL", Origin: "unset", Reload: true},
	}
	if !slices.Equal(got.Items, want) {
		t.Errorf("got %+v", got.Items)
	}
	h.Call("GET", path, functiontest.As("ada"), nil).Expect(403)
	h.Call("GET", path, auth.Principal{}, nil).Expect(401)

	told := config.Report{Refused: "no", Settings: []config.Setting{{Variable: "EBB_X", Value: "1", Origin: "x.yaml:3"}}}
	h = functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.Settings = func() config.Report { return told }
		return newDesk(env)
	})
	got.Items = nil
	h.Call("GET", path, viewer, nil).Expect(200).JSON(&got)
	if !slices.Equal(got.Items, told.Settings) || got.Refused != "no" {
		t.Errorf("the host tells %+v, got %+v", told, got)
	}
}

// page is a handler behind the gateway.
type page struct{ http.Handler }

func (page) Routes() []manifest.Route {
	return []manifest.Route{{Method: "GET", Path: "/page", Access: manifest.AccessPublic}}
}

// A handler in place of operations is behind the gateway, and the function tells its settings beside it; a gateway is
// not, and takes every request itself.
func TestSettingsBesideAHandler(t *testing.T) {
	all := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, c := range []struct {
		handler http.Handler
		routes  int
		answer  int
	}{{page{all}, 2, http.StatusUnauthorized}, {all, 0, http.StatusTeapot}} {
		f := function.New("desk", function.Env{})
		if _, err := function.Configure[deskSettings](f); err != nil {
			t.Fatal(err)
		}
		function.Handler(f, c.handler, nil)
		if got := len(f.Instance().Declaration().Routes); got != c.routes {
			t.Errorf("%T: %d routes", c.handler, got)
		}
		for path, want := range map[string]int{"/api/settings/desk": c.answer, "/api/settings/other": 418, "/page": 418} {
			w := httptest.NewRecorder()
			f.Instance().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != want {
				t.Errorf("%T: %s: got %d, want %d", c.handler, path, w.Code, want)
			}
		}
	}
}
