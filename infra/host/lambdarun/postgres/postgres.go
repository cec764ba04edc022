// Package postgres adds PostgreSQL to the databases that package lambdarun chooses from:
//
//	import _ "github.com/ebb-dev/ebb/infra/host/lambdarun/postgres"
//
// It is a package of its own because of the size of what it links.
package postgres

import (
	"github.com/ebb-dev/ebb/infra/host/lambdarun"
	"github.com/ebb-dev/ebb/infra/store/postgres"
)

func init() { lambdarun.AddPostgres(postgres.Opener) }
