// Package aws_test runs the shop on an emulator of AWS.
package aws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/test/shop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	dynamodbtest.Stop()
	os.Exit(code)
}

// counter stands before the emulator and counts the actions of commits.
type counter struct {
	mu      sync.Mutex
	largest map[string]int // by table
}

// count returns a handler that hands requests on to the emulator.
func (c *counter) count(emulator *url.URL) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(emulator)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.Header.Get("X-Amz-Target") == "DynamoDB_20120810.TransactWriteItems" {
			c.note(body)
		}
		proxy.ServeHTTP(w, r)
	})
}

func (c *counter) note(body []byte) {
	var commit struct {
		TransactItems []map[string]struct{ TableName string }
	}
	if json.Unmarshal(body, &commit) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, action := range commit.TransactItems[0] {
		c.largest[action.TableName] = max(c.largest[action.TableName], len(commit.TransactItems))
	}
}

// onDynamoDB returns the functions of the shop, each with a table of its own.
func onDynamoDB(t *testing.T) system.System {
	t.Helper()
	sys := functions.System()
	for i, d := range sys.Functions {
		dynamodbtest.CreateTable(t, d.Name)
		sys.Functions[i].New = func(env function.Env) (*function.Function, error) {
			env.Store = dynamodb.Opener("", "")
			return d.New(env)
		}
	}
	return sys
}

const (
	adminEmail    = "admin@example.com"
	adminPassword = "correct horse"

	mostLines      = 100 // of an order, whatever the database
	mostOnDynamoDB = 89  // docs/deploy-aws.md says so
)

// The largest order that orders takes on DynamoDB is confirmed: no later unit of work has more actions than a
// transaction may have. One of more lines, which other databases take, is refused with 413 when it is placed.
func TestLargeOrder(t *testing.T) {
	dynamodbtest.Need(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{largest: map[string]int{}}
	before := httptest.NewServer(counted.count(emulator))
	defer before.Close()
	t.Setenv("AWS_ENDPOINT_URL", before.URL)
	host, err := local.New(context.Background(), local.Config{
		Dir: t.TempDir(), Tick: 100 * time.Millisecond, System: onDynamoDB(t),
		Claims: local.Claims{Issuer: "ebb", Audience: "ebb"},
		Secrets: map[string]config.Lookup{
			"users": config.Map(map[string]string{
				"EBB_ADMIN_EMAIL": adminEmail, "EBB_ADMIN_PASSWORD": adminPassword,
			}),
			"orders": config.Map(map[string]string{"EBB_ORDERS_STEP_DEADLINE": "1h"}), // however slow the machine is
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close(context.Background())
	server := httptest.NewServer(host.Handler())
	defer server.Close()

	c, ctx := shop.NewClient(server.URL, 4), t.Context()
	admin, err := c.Login(ctx, adminEmail, adminPassword)
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]shop.Line, mostLines)
	products := make([]string, len(lines))
	for i := range lines {
		if products[i], err = c.AddProduct(ctx, admin, "tea", 100, 10); err != nil {
			t.Fatal(err)
		}
		lines[i] = shop.Line{ProductID: products[i], Quantity: 1}
	}
	who, err := c.Register(ctx, "ada")
	if err != nil {
		t.Fatal(err)
	}
	var order shop.Order
	n := len(lines)
	for ; n > 0; n-- {
		order, err = c.Place(ctx, who, fmt.Sprint("key ", n), "tok_ok", 0, lines[:n]...)
		for isStatus(err, http.StatusNotFound, http.StatusUnprocessableEntity) { // it learns of the products from events
			order, err = c.Place(ctx, who, fmt.Sprint("key ", n), "tok_ok", 0, lines[:n]...)
		}
		if !isStatus(err, http.StatusRequestEntityTooLarge) {
			break
		}
	}
	if err == nil {
		order, err = c.AwaitOrder(ctx, who, order.ID)
	}
	if err != nil || order.Status != "confirmed" {
		t.Fatalf("an order of %d lines: got %+v, %v", n, order, err)
	}
	if n != mostOnDynamoDB {
		t.Errorf("the largest order has %d lines, and the documents say %d", n, mostOnDynamoDB)
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	for table, n := range counted.largest {
		t.Logf("%s: %d actions in the largest commit", table, n)
		if n > 100 {
			t.Errorf("%s: a commit has %d actions", table, n)
		}
	}
}

// isStatus reports whether err is an answer with one of the statuses.
func isStatus(err error, codes ...int) bool {
	var answer *shop.Status
	return errors.As(err, &answer) && slices.Contains(codes, answer.Code)
}
