// Package rpc_test calls the whole shop, on the local host, by gRPC, gRPC-Web and Connect.
package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/functions/catalog/catalogv1"
	"github.com/ebb-dev/ebb/functions/catalog/catalogv1/catalogv1connect"
	"github.com/ebb-dev/ebb/functions/inventory/inventoryv1"
	"github.com/ebb-dev/ebb/functions/orders/ordersv1"
	"github.com/ebb-dev/ebb/functions/users/usersv1"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
)

var (
	url     string           // of the shop
	conn    *grpc.ClientConn // to it
	admin   string           // the token of its admin
	product *catalogv1.Product
)

const adminEmail, adminPassword = "admin@example.com", "correct horse"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rpc")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	host, err := local.New(context.Background(), local.Config{
		Dir: dir, System: functions.System(), Claims: local.Claims{Issuer: "ebb", Audience: "ebb"},
		Secrets: map[string]config.Lookup{"users": config.Map(map[string]string{
			"EBB_ADMIN_EMAIL": adminEmail, "EBB_ADMIN_PASSWORD": adminPassword,
		})},
		Lookup: config.Map(map[string]string{"EBB_CORS_ORIGINS": "https://shop.example"}),
		Hosts:  []string{"*"}, Origins: []string{"https://shop.example"},
	})
	if err != nil {
		panic(err)
	}
	server := httptest.NewUnstartedServer(host.Handler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer func() {
		server.Close()
		_ = host.Close(context.Background())
	}()
	url = server.URL
	if conn, err = grpc.NewClient(server.Listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		panic(err)
	}
	defer conn.Close()
	if err := prepare(context.Background()); err != nil {
		panic(err)
	}
	return m.Run()
}

// call calls a method by gRPC. Pairs are names and values of metadata.
func call[Out any](ctx context.Context, method string, in any, pairs ...string) (*Out, error) {
	out := new(Out)
	return out, conn.Invoke(metadata.AppendToOutgoingContext(ctx, pairs...), method, in, out)
}

// The methods that the tests call.
const (
	getProduct  = catalogv1connect.CatalogServiceGetProductProcedure
	addProduct  = catalogv1connect.CatalogServiceAddProductProcedure
	placeOrder  = "/ebb.orders.v1.OrderService/PlaceOrder"
	listOrders  = "/ebb.orders.v1.OrderService/ListOrders"
	setStock    = "/ebb.inventory.v1.InventoryService/SetStock"
	openSession = "/ebb.users.v1.UserService/OpenSession"
	register    = "/ebb.users.v1.UserService/Register"
)

// prepare signs the admin in and adds a product with stock.
func prepare(ctx context.Context) error {
	tokens, err := call[usersv1.Tokens](ctx, openSession,
		&usersv1.OpenSessionRequest{Email: adminEmail, Password: adminPassword})
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	admin = "Bearer " + tokens.AccessToken
	price := &catalogv1.Money{Amount: new(int64(1250)), Currency: "EUR"}
	product, err = call[catalogv1.Product](ctx, addProduct, &catalogv1.AddProductRequest{Name: "Lamp", Price: price},
		"authorization", admin)
	if err != nil {
		return fmt.Errorf("add a product: %w", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // inventory learns of it
		_, err = call[inventoryv1.Stock](ctx, setStock, &inventoryv1.SetStockRequest{
			ProductId: product.Id, Count: &inventoryv1.StockCount{Available: new(int64(10))},
		}, "authorization", admin)
		if status.Code(err) != codes.NotFound || time.Now().After(deadline) {
			return err
		}
	}
}

// customer registers a customer, and returns their token as metadata have it.
func customer(t *testing.T) string {
	t.Helper()
	email := strings.ToLower(t.Name()) + "@example.com"
	_, err := call[usersv1.User](t.Context(), register,
		&usersv1.RegisterRequest{Name: "Ada", Email: email, Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := call[usersv1.Tokens](t.Context(), openSession,
		&usersv1.OpenSessionRequest{Email: email, Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + tokens.AccessToken
}

// document returns the problem document of a failed call.
func document(err error) map[string]any {
	for _, d := range status.Convert(err).Details() {
		if s, ok := d.(*structpb.Struct); ok {
			return s.AsMap()
		}
	}
	return nil
}

// An order by gRPC goes through the whole saga. The same Idempotency-Key is the same order.
func TestOrder(t *testing.T) {
	token := customer(t)
	order := &ordersv1.PlaceOrderRequest{
		Lines:   []*ordersv1.Line{{ProductId: product.Id, Quantity: 2}},
		Payment: &ordersv1.Payment{Token: "tok_ok"},
	}
	place := func() *ordersv1.Order {
		t.Helper()
		o, err := call[ordersv1.Order](t.Context(), placeOrder, order, "authorization", token, "idempotency-key", "first",
			"prefer", "wait=30")
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first, second := place(), place()
	if first.Status != "confirmed" || first.Total.GetAmount() != 2500 || first.EndedAt == nil || first.Id != second.Id ||
		len(first.Saga.GetSteps()) == 0 {
		t.Errorf("got %v and %v", first, second)
	}
	orders, err := call[ordersv1.OrderList](t.Context(), listOrders, &ordersv1.ListOrdersRequest{Limit: 5},
		"authorization", token)
	if err != nil || len(orders.Items) != 1 || orders.Items[0].Id != first.Id {
		t.Errorf("got %v, %v", orders, err)
	}
}

// A call that an operation refuses has the code of the refusal, and its problem document.
func TestRefusals(t *testing.T) {
	ctx, token := t.Context(), customer(t)
	for name, c := range map[string]struct {
		call func() error
		code codes.Code
		http float64
	}{
		"no token": {func() error {
			_, err := call[ordersv1.OrderList](ctx, listOrders, &ordersv1.ListOrdersRequest{})
			return err
		}, codes.Unauthenticated, 401},
		"a bad token": {func() error {
			_, err := call[ordersv1.OrderList](ctx, listOrders, &ordersv1.ListOrdersRequest{}, "authorization", "Bearer x")
			return err
		}, codes.Unauthenticated, 401},
		"not an admin": {func() error {
			_, err := call[catalogv1.Product](ctx, addProduct, &catalogv1.AddProductRequest{Name: "a"}, "authorization", token)
			return err
		}, codes.PermissionDenied, 403},
		"another's orders": {func() error {
			_, err := call[ordersv1.OrderList](ctx, listOrders, &ordersv1.ListOrdersRequest{CustomerId: "other"},
				"authorization", token)
			return err
		}, codes.PermissionDenied, 403},
		"no such product": {func() error {
			_, err := call[catalogv1.Product](ctx, getProduct, &catalogv1.GetProductRequest{Id: "a/../b?c"})
			return err
		}, codes.NotFound, 404},
		"no id": {func() error {
			_, err := call[catalogv1.Product](ctx, getProduct, &catalogv1.GetProductRequest{})
			return err
		}, codes.NotFound, 404},
		"no price": {func() error {
			_, err := call[catalogv1.Product](ctx, addProduct, &catalogv1.AddProductRequest{Name: "a"}, "authorization", admin)
			return err
		}, codes.InvalidArgument, 422},
		"a change without if-match": {func() error {
			_, err := call[catalogv1.Product](ctx, catalogv1connect.CatalogServiceChangeProductProcedure,
				&catalogv1.ChangeProductRequest{Id: product.Id}, "authorization", admin)
			return err
		}, codes.FailedPrecondition, 428},
		"a large message": {func() error {
			_, err := call[usersv1.User](ctx, register, &usersv1.RegisterRequest{Name: strings.Repeat("a", 100_000)})
			return err
		}, codes.ResourceExhausted, 413},
	} {
		err := c.call()
		if status.Code(err) != c.code || document(err)["status"] != c.http {
			t.Errorf("%s: got %v with %v, want %v with status %v", name, err, document(err), c.code, c.http)
		}
	}
}

// An expected total of nothing is one: it reaches the operation, which compares it.
func TestExpectedTotalOfNothing(t *testing.T) {
	_, err := call[ordersv1.Order](t.Context(), placeOrder, &ordersv1.PlaceOrderRequest{
		Lines:         []*ordersv1.Line{{ProductId: product.Id, Quantity: 1}},
		Payment:       &ordersv1.Payment{Token: "tok_ok"},
		ExpectedTotal: &ordersv1.Money{Amount: new(int64(0)), Currency: "EUR"},
	}, "authorization", customer(t), "idempotency-key", "free")
	if status.Code(err) != codes.Aborted {
		t.Errorf("got %v with %v", err, document(err))
	}
}

// A change by gRPC takes the etag from the metadata of a response. What is not set stays.
func TestChange(t *testing.T) {
	var header metadata.MD
	price := &catalogv1.Money{Amount: new(int64(0)), Currency: "EUR"}
	var added, changed catalogv1.Product
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", admin)
	err := conn.Invoke(ctx, addProduct, &catalogv1.AddProductRequest{Name: "Gift", Price: price}, &added,
		grpc.Header(&header))
	if err != nil || len(header.Get("etag")) != 1 || header.Get("location")[0] != "/api/products/"+added.Id {
		t.Fatalf("got %v, %v", header, err)
	}
	err = conn.Invoke(metadata.AppendToOutgoingContext(ctx, "if-match", header.Get("etag")[0]),
		catalogv1connect.CatalogServiceChangeProductProcedure,
		&catalogv1.ChangeProductRequest{Id: added.Id, Change: &catalogv1.ProductChange{Name: new("Card")}}, &changed)
	if err != nil || changed.Name != "Card" || changed.Price.GetAmount() != 0 || changed.Price.GetCurrency() != "EUR" {
		t.Errorf("got %v, %v", &changed, err)
	}
	remove := &catalogv1.RemoveProductRequest{Id: added.Id}
	if _, err := call[structpb.Struct](ctx, catalogv1connect.CatalogServiceRemoveProductProcedure, remove); err != nil {
		t.Error(err)
	}
	_, err = call[catalogv1.Product](ctx, getProduct, &catalogv1.GetProductRequest{Id: added.Id})
	if status.Code(err) != codes.NotFound {
		t.Errorf("after its removal: got %v", err)
	}
}

// A call whose time is over ends with DEADLINE_EXCEEDED, and its request is cancelled.
func TestDeadline(t *testing.T) {
	order := &ordersv1.PlaceOrderRequest{
		Lines:   []*ordersv1.Line{{ProductId: product.Id, Quantity: 1}},
		Payment: &ordersv1.Payment{Token: "tok_slow"},
	}
	r := post(t, "/ebb.orders.v1.OrderService/PlaceOrder", order, "Connect-Timeout-Ms", "1", "Prefer", "wait=60",
		"Authorization", customer(t), "Idempotency-Key", "late")
	if body := read(t, r); r.StatusCode != http.StatusGatewayTimeout || !strings.Contains(body, `"deadline_exceeded"`) {
		t.Errorf("got %d %s", r.StatusCode, body)
	}
}

// post sends a call by Connect with JSON.
func post(t *testing.T, path string, message any, header ...string) *http.Response {
	t.Helper()
	body, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// h2c is a client of HTTP/2 without TLS.
var h2c = &http.Client{Transport: &http.Transport{Protocols: unencryptedHTTP2()}}

func unencryptedHTTP2() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// gRPC, gRPC-Web and Connect, with Protobuf and with JSON, compressed and by GET, answer the same.
func TestProtocols(t *testing.T) {
	for name, c := range map[string]catalogv1connect.CatalogServiceClient{
		"gRPC":           catalogv1connect.NewCatalogServiceClient(h2c, url, connect.WithGRPC()),
		"gRPC with JSON": catalogv1connect.NewCatalogServiceClient(h2c, url, connect.WithGRPC(), connect.WithProtoJSON()),
		"gRPC with gzip": catalogv1connect.NewCatalogServiceClient(h2c, url, connect.WithGRPC(), connect.WithSendGzip()),
		"gRPC-Web":       catalogv1connect.NewCatalogServiceClient(http.DefaultClient, url, connect.WithGRPCWeb()),
		"gRPC-Web with JSON": catalogv1connect.NewCatalogServiceClient(http.DefaultClient, url, connect.WithGRPCWeb(),
			connect.WithProtoJSON()),
		"Connect":           catalogv1connect.NewCatalogServiceClient(http.DefaultClient, url),
		"Connect with JSON": catalogv1connect.NewCatalogServiceClient(http.DefaultClient, url, connect.WithProtoJSON()),
		"Connect over h2":   catalogv1connect.NewCatalogServiceClient(h2c, url),
		"Connect by GET": catalogv1connect.NewCatalogServiceClient(http.DefaultClient, url, connect.WithHTTPGet(),
			connect.WithProtoJSON()),
	} {
		got, err := c.GetProduct(t.Context(), connect.NewRequest(&catalogv1.GetProductRequest{Id: product.Id}))
		if err != nil || got.Msg.Price.GetAmount() != 1250 || got.Header().Get("Etag") == "" {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		_, err = c.GetProduct(t.Context(), connect.NewRequest(&catalogv1.GetProductRequest{Id: "none"}))
		var failed *connect.Error
		if connect.CodeOf(err) != connect.CodeNotFound || !errors.As(err, &failed) || len(failed.Details()) != 1 {
			t.Errorf("%s: got %v", name, err)
		}
		_, err = c.AddProduct(t.Context(), connect.NewRequest(&catalogv1.AddProductRequest{Name: "a"}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A plain POST of JSON is a call by Connect. Its response has the JSON of the operation's.
func TestPlainJSON(t *testing.T) {
	r := post(t, getProduct, map[string]string{"id": product.Id})
	body := read(t, r)
	var got struct {
		Price struct {
			Amount int64 `json:"amount"`
		} `json:"price"`
		CreatedAt time.Time `json:"created_at"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Price.Amount != 1250 || got.CreatedAt.IsZero() {
		t.Errorf("got %d %s: %v", r.StatusCode, body, err)
	}
	r = post(t, listOrders, struct{}{})
	if body := read(t, r); r.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `"code":"unauthenticated"`) {
		t.Errorf("got %d %s", r.StatusCode, body)
	}
}

// A method that a service does not have is UNIMPLEMENTED, and so is a service that there is not.
func TestUnknownMethod(t *testing.T) {
	for _, method := range []string{"/ebb.catalog.v1.CatalogService/Sell", "/ebb.catalog.v1.Shop/GetProduct"} {
		_, err := call[catalogv1.Product](t.Context(), method, &catalogv1.GetProductRequest{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: got %v", method, err)
		}
	}
}

// The gateway tells its health, and lists and describes its services.
func TestHealthAndReflection(t *testing.T) {
	client := healthpb.NewHealthClient(conn)
	for _, service := range []string{"", "ebb.orders.v1.OrderService"} {
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: got %v, %v", service, got, err)
		}
	}
	_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	listed := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService()
	if len(listed) != 5 {
		t.Errorf("got %v", listed)
	}
	files := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: "ebb.orders.v1.OrderService",
		},
	}).GetFileDescriptorResponse().GetFileDescriptorProto()
	if len(files) == 0 {
		t.Error("the file of the service is not found")
	}
}

// A browser may send calls from the pages of a listed origin and read their failures, and from no other.
func TestCORS(t *testing.T) {
	for _, origin := range []string{"https://shop.example", "https://other.example"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, url+getProduct, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "content-type,x-grpc-web")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = read(t, answer)
		// POST needs no mention (Fetch standard, "CORS-safelisted method").
		allowed := strings.Contains(answer.Header.Get("Access-Control-Allow-Headers"), "x-grpc-web") &&
			answer.Header.Get("Access-Control-Allow-Origin") == origin && answer.StatusCode == http.StatusNoContent
		if want := origin == "https://shop.example"; allowed != want {
			t.Errorf("%s: got %d %v", origin, answer.StatusCode, answer.Header)
		}
	}
	r := post(t, getProduct, map[string]string{"id": product.Id}, "Origin", "https://shop.example")
	_ = read(t, r)
	if !strings.Contains(r.Header.Get("Access-Control-Expose-Headers"), "grpc-status") {
		t.Errorf("got %v", r.Header)
	}
}
