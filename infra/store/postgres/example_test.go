package postgres_test

import (
	"context"
	"fmt"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
)

// What a team runs once for a function, as an administrator of the database:
//
//	CREATE ROLE orders LOGIN PASSWORD '…';
//	CREATE SCHEMA orders AUTHORIZATION orders;
//
// The function makes its tables and indexes itself.
func Example() {
	schema := store.Schema{{Name: "orders", Indexes: []store.Index{store.On("customer_id")}}}
	s, err := postgres.Open(context.Background(), "postgres://orders@127.0.0.1:1/shop", "orders", schema) // nobody listens there
	if err != nil {
		fmt.Println(fault.Public(err))
		return
	}
	defer func() { _ = s.Close() }()
	// Output: the database does not answer; see that its server runs, and that the store's URL has the right host, port and sslmode
}
