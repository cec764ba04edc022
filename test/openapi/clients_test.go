package openapi_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/ebb-dev/ebb/api/client"
)

// The Go client takes a customer through an order: names, types, keys and problems are those of the shop.
func TestGoClient(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := t.Context()
	c := &client.Client{URL: s.url}
	session := func(email, password string) string {
		t.Helper()
		in, err := c.PostSessions(ctx, client.LoginInputBody{Email: email, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		return in.AccessToken
	}
	admin := client.WithToken(session(adminEmail, adminPassword))
	var answer client.Response
	product, err := c.PostProducts(ctx, client.AddInputBody{
		Name: "Tide table", Price: client.Money{Amount: 1250, Currency: "EUR"},
	}, admin, client.WithResponse(&answer))
	if err != nil || answer.Status != http.StatusCreated || answer.Header.Get("Location") == "" {
		t.Fatalf("product %+v, answer %+v: %v", product, answer, err)
	}
	product, err = c.PatchProductsID(ctx, product.ID, client.ChangeInputBody{Name: new("Tide tables")},
		client.PatchProductsIDParams{IfMatch: answer.Header.Get("ETag")}, admin)
	if err != nil || product.Name != "Tide tables" || product.Price.Amount != 1250 {
		t.Fatalf("product %+v: %v", product, err)
	}
	stock := client.CountedStockBody{Available: 10}
	if _, err := c.PutStockProductID(ctx, product.ID, stock, admin); err != nil {
		t.Fatal(err)
	}

	ada := client.RegisterInputBody{Name: "Ada", Email: "ada@example.com", Password: "a countess counts"}
	if _, err := c.PostUsers(ctx, ada); err != nil {
		t.Fatal(err)
	}
	token := session(ada.Email, ada.Password)
	c.Token = func(context.Context) (string, error) { return token, nil }
	in := client.PlaceInputBody{
		Lines: []client.OrderedLine{{ProductID: product.ID, Quantity: 2}}, Payment: client.PaymentStruct{Token: "tok_ok"},
	}
	wait := client.PostOrdersParams{Prefer: "wait=30"}
	var order client.Order
	var refused *client.Error
	s.within("the order is taken", func() bool {
		order, err = c.PostOrders(ctx, in, wait, client.WithIdempotencyKey("first"), client.WithResponse(&answer))
		if err != nil && !(errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity) {
			t.Fatal(err)
		}
		return err == nil
	})
	if answer.Status != http.StatusOK || order.Status != "confirmed" || order.Total.Amount != 2500 {
		t.Errorf("answer %+v, order %+v", answer, order)
	}
	again, err := c.PostOrders(ctx, in, wait, client.WithIdempotencyKey("first"), client.WithResponse(&answer))
	if err != nil || again.ID != order.ID || answer.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("order %s, answer %+v: %v", again.ID, answer, err)
	}
	other, err := c.PostOrders(ctx, in, wait)
	if err != nil || other.ID == order.ID {
		t.Errorf("order %s without a key, after %s: %v", other.ID, order.ID, err)
	}
	page, err := c.GetOrders(ctx, client.GetOrdersParams{Limit: 1})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != other.ID || page.Next == "" {
		t.Fatalf("page %+v: %v", page, err)
	}
	page, err = c.GetOrders(ctx, client.GetOrdersParams{Limit: 1, Cursor: page.Next})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != order.ID {
		t.Errorf("page %+v: %v", page, err)
	}
	if _, err := c.PostOrdersIDCancellation(ctx, order.ID, nil); !errors.As(err, &refused) ||
		refused.Status != http.StatusConflict || refused.Problem.Detail == "" {
		t.Errorf("cancelled with %v", err)
	}
	if _, err = c.GetOrdersID(ctx, "a/b?c", client.WithToken("junk")); !errors.As(err, &refused) ||
		refused.Status != http.StatusUnauthorized {
		t.Errorf("shown with %v", err)
	}
	if err := c.DeleteProductsID(ctx, product.ID, client.DeleteProductsIDParams{}, admin); err != nil {
		t.Error(err)
	}
}

// The TypeScript client does the same in Node.js.
func TestTypeScriptClient(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("this needs Node.js 20 or later: install nodejs")
	}
	s := start(t)
	run := exec.CommandContext(t.Context(), node, "testdata/order.mjs")
	run.Env = append(os.Environ(), "SHOP="+s.url, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword)
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The types of the TypeScript client are those of its methods: a program with the wrong ones is refused. Where npm's
// registry cannot be reached, the compiler cannot be had.
func TestTypeScriptTypes(t *testing.T) {
	t.Parallel()
	npx, err := exec.LookPath("npx")
	if err != nil {
		t.Skip("this needs Node.js 20 or later: install nodejs")
	}
	compile := func(files ...string) ([]byte, error) {
		args := []string{"--yes", "--package", "typescript@5.9.3", "--", "tsc", "--noEmit", "--strict", "--target", "es2022",
			"--module", "nodenext", "--lib", "es2022,dom"}
		return exec.CommandContext(t.Context(), npx, append(args, files...)...).CombinedOutput()
	}
	if out, err := exec.CommandContext(t.Context(), npx, "--yes", "--package", "typescript@5.9.3", "--", "tsc",
		"--version").CombinedOutput(); err != nil {
		t.Skipf("npx cannot install the compiler: %v\n%s", err, out)
	}
	if out, err := compile("testdata/right.mts"); err != nil {
		t.Errorf("a program with the right types: %v\n%s", err, out)
	}
	if out, err := compile("testdata/wrong.mts"); err == nil {
		t.Errorf("a program with the wrong types is accepted: %s", out)
	}
}
