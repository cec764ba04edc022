package postgres_test

import (
	"io"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/lambdarun"
	_ "github.com/ebb-dev/ebb/infra/host/lambdarun/postgres"
	"github.com/ebb-dev/ebb/infra/system"
)

// A program that imports this package takes the URL of a PostgreSQL database.
func TestURL(t *testing.T) {
	bell := system.System{Name: "bell", Functions: []system.Definition{{
		Name: "bell", New: func(env function.Env) (*function.Function, error) { return function.New("bell", env), nil },
	}}}
	for url, want := range map[string]string{
		"postgres://u@h/d": "", "postgres://u@h/d?sslmode=hunter2": "EBB_STORE has", "mysql://u@h/d": "an unknown scheme",
	} {
		_, err := lambdarun.New(bell, config.Map(map[string]string{"FUNCTION": "bell", "EBB_STORE": url}), io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
	}
}
