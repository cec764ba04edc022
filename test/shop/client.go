// Package shop is a client of the shop, runs the real process, and checks the invariants over the stores of a stopped
// process.
package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The administrator of a system under test.
const (
	AdminEmail    = "admin@example.com"
	AdminPassword = "an administrator's password"
)

// Client sends requests to one running shop. It may be used concurrently.
type Client struct {
	URL  string
	HTTP *http.Client
}

// NewClient returns a client that keeps up to connections connections open.
func NewClient(url string, connections int) *Client {
	transport := &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}
	return &Client{URL: url, HTTP: &http.Client{Transport: transport, Timeout: 90 * time.Second}}
}

// Status is the error for a response that is not 2xx.
type Status struct {
	Call string
	Code int
	Body string
}

func (s *Status) Error() string { return fmt.Sprintf("%s: status %d: %s", s.Call, s.Code, s.Body) }

// Do sends a request and decodes the response into out, unless out is nil. Any status but 2xx is a *Status.
func (c *Client) Do(ctx context.Context, method, path, token string, in, out any, headers ...string) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := c.HTTP.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	data, err := io.ReadAll(w.Body)
	if err != nil {
		return err
	}
	if w.StatusCode/100 != 2 {
		return &Status{Call: method + " " + path, Code: w.StatusCode, Body: strings.TrimSpace(string(data))}
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// Login opens a session and returns its access token.
func (c *Client) Login(ctx context.Context, email, password string) (string, error) {
	var session struct {
		AccessToken string `json:"access_token"`
	}
	err := c.Do(ctx, "POST", "/api/sessions", "", map[string]string{"email": email, "password": password}, &session)
	return session.AccessToken, err
}

// Customer is a registered customer with an access token.
type Customer struct {
	ID    string
	Name  string
	Token string
}

// Register registers a customer and logs in.
func (c *Client) Register(ctx context.Context, name string) (Customer, error) {
	email, password := credentials(name)
	var user struct {
		ID string `json:"id"`
	}
	err := c.Do(ctx, "POST", "/api/users", "", map[string]string{"name": name, "email": email, "password": password},
		&user)
	if err != nil {
		return Customer{}, err
	}
	return c.LoginAgain(ctx, Customer{ID: user.ID, Name: name})
}

// LoginAgain returns the customer with a new token. A token is valid for 15 minutes.
func (c *Client) LoginAgain(ctx context.Context, who Customer) (Customer, error) {
	email, password := credentials(who.Name)
	token, err := c.Login(ctx, email, password)
	who.Token = token
	return who, err
}

func credentials(name string) (email, password string) {
	return name + "@example.com", "a password for " + name
}

// AddProduct makes a product with the price amount in cents and the available stock, and returns its id.
func (c *Client) AddProduct(ctx context.Context, admin, name string, amount, available int) (string, error) {
	var product struct {
		ID string `json:"id"`
	}
	in := map[string]any{"name": name, "price": map[string]any{"amount": amount, "currency": "EUR"}}
	if err := c.Do(ctx, "POST", "/api/products", admin, in, &product); err != nil {
		return "", err
	}
	return product.ID, c.Do(ctx, "PUT", "/api/stock/"+product.ID, admin, map[string]int{"available": available}, nil)
}

// Line is a quantity of a product.
type Line struct {
	ProductID string `json:"product_id"`
	Quantity  int    `json:"quantity"`
}

// Order is an order as the API returns it.
type Order struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}

// Ended reports whether the order is in a final state.
func (o Order) Ended() bool { return o.Status == "confirmed" || o.Status == "cancelled" }

// Place places an order with an idempotency key, and waits up to wait seconds for its end.
func (c *Client) Place(ctx context.Context, by Customer, key, payment string, wait int, lines ...Line) (Order, error) {
	headers := []string{"Idempotency-Key", key}
	if wait > 0 {
		headers = append(headers, "Prefer", fmt.Sprintf("wait=%d", wait))
	}
	var o Order
	err := c.Do(ctx, "POST", "/api/orders", by.Token, map[string]any{"lines": lines,
		"payment": map[string]string{"token": payment}}, &o, headers...)
	return o, err
}

// Order returns an order.
func (c *Client) Order(ctx context.Context, by Customer, id string) (Order, error) {
	var o Order
	err := c.Do(ctx, "GET", "/api/orders/"+id, by.Token, nil, &o)
	return o, err
}

// AwaitOrder polls until the order has ended, first every 20 milliseconds and then less often, down to 4 times a
// second.
func (c *Client) AwaitOrder(ctx context.Context, by Customer, id string) (Order, error) {
	for wait := 20 * time.Millisecond; ; wait = min(wait*5/4, 250*time.Millisecond) {
		o, err := c.Order(ctx, by, id)
		if err != nil || o.Ended() {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("order %s is still %s: %w", id, o.Status, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// ProductsKnown waits until orders accepts the products, which it learns from events.
func (c *Client) ProductsKnown(ctx context.Context, by Customer, ids ...string) error {
	for _, id := range ids {
		for n := 0; ; n++ {
			o, err := c.Place(ctx, by, fmt.Sprintf("probe-%s-%d", id, n), "tok_declined", 10, Line{id, 1})
			if s, ok := err.(*Status); !ok || s.Code != http.StatusUnprocessableEntity {
				if err == nil { // until it ends, it reserves one of the product
					_, err = c.AwaitOrder(ctx, by, o.ID)
				}
				if err != nil {
					return err
				}
				break
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}
