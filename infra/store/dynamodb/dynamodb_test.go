package dynamodb_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

// TestMain lowers the number of random sequences unless a number is set, because each call goes to another process.
func TestMain(m *testing.M) {
	flag.Parse()
	checks := false
	flag.Visit(func(f *flag.Flag) { checks = checks || f.Name == "rapid.checks" })
	if !checks {
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	dynamodbtest.Stop()
	os.Exit(code)
}

// tableOf returns a table that only this test uses.
func tableOf(t testing.TB) dynamodb.Config {
	h := fnv.New64a()
	_, _ = io.WriteString(h, t.Name())
	return dynamodb.Config{Table: fmt.Sprintf("test-%x", h.Sum64()), Function: "test"}
}

func open(t testing.TB, schema store.Schema) *dynamodb.Store {
	t.Helper()
	dynamodbtest.Need(t)
	dynamodbtest.CreateTable(t, tableOf(t).Table)
	s, err := dynamodb.Open(context.Background(), tableOf(t), schema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	dynamodbtest.Need(t)
	defer dynamodb.SetPruneEvery(1)()
	var clocks sync.Map // by test
	open := func(t *testing.T, schema store.Schema) store.Driver {
		c, _ := clocks.LoadOrStore(t.Name(), &clock{})
		s := open(t, schema)
		s.SetNow(c.(*clock).now)
		return s
	}
	storetest.Run(t, storetest.Harness{
		New:    open,
		Reopen: open,
		Later: func(t *testing.T, schema store.Schema) store.Driver {
			c, _ := clocks.Load(t.Name())
			c.(*clock).later.Store(true)
			return open(t, schema)
		},
		Marks:        func(t *testing.T, d store.Driver) int { return d.(*dynamodb.Store).Count(t)["marks"] },
		MaxDocument:  400<<10 - 1024,
		MaxMutations: 12,
	})
}

// clock is the clock of a test's handles. Later, it goes on by more than half an hour with each look.
type clock struct {
	later atomic.Bool
	looks atomic.Int64
}

func (c *clock) now() time.Time {
	if !c.later.Load() {
		return time.Now()
	}
	return time.Now().Add(store.MarkRetention + time.Hour + time.Duration(c.looks.Add(1))*40*time.Minute)
}
