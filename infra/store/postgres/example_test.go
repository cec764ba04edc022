package postgres_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
)

// An administrator of the database runs this once for a function:
//
//	CREATE ROLE orders LOGIN PASSWORD '…';
//	CREATE SCHEMA orders AUTHORIZATION orders;
//
// The function creates its tables and indexes itself.
func Example() {
	schema := store.Schema{{Name: "orders", Indexes: []store.Index{store.On("customer_id")}}}
	const url = "postgres://orders@127.0.0.1:1/shop" // no server listens there
	s, err := postgres.Open(context.Background(), url, "orders", schema)
	if err != nil {
		problem, remedy, _ := strings.Cut(fault.Public(err), "; ")
		fmt.Println(problem)
		fmt.Println(remedy)
		return
	}
	defer func() { _ = s.Close() }()
	// Output:
	// the database does not answer
	// see that its server runs, and that the store's URL has the right host, port and sslmode
}
