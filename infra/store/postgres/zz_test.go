package postgres_test
import ("testing";"time";"context";"github.com/jackc/pgx/v5";"github.com/ebb-dev/ebb/infra/store/postgres";"github.com/ebb-dev/ebb/infra/store/postgres/pgtest";"github.com/ebb-dev/ebb/infra/store/storetest")
func TestZZ(t *testing.T) {
	u := pgtest.Role(t)
	s, err := postgres.Open(t.Context(), u, "orders", storetest.Schema); if err != nil {t.Fatal(err)}
	s.Close()
	mean := func(what string, f func()) { best := time.Hour; a := time.Now(); for range 20 { b := time.Now(); f(); best = min(best, time.Since(b)) }; t.Log(what, "mean", time.Since(a)/20, "best", best) }
	mean("connect", func(){ c, err := pgx.Connect(context.Background(), u); if err != nil { t.Fatal(err) }; c.Close(context.Background()) })
	mean("connect+select 1", func(){ c, _ := pgx.Connect(context.Background(), u); c.Exec(context.Background(), "select 1"); c.Close(context.Background()) })
	mean("open", func(){ s, err := postgres.Open(t.Context(), u, "orders", storetest.Schema); if err != nil {t.Fatal(err)}; s.Close() })
}
