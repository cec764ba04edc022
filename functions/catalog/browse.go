package catalog

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	listProducts = function.Operation{
		Method: http.MethodGet, Path: "/api/products", Access: function.Public, Summary: "List products",
		Description: "In the order in which they were added.", Policy: stored(""),
	}
	getProduct = function.Operation{
		Method: http.MethodGet, Path: "/api/products/{id}", Access: function.Public, Summary: "Show a product",
		Description: "With If-None-Match, 304 when the product's ETag is one of those given.",
		Statuses:    []int{http.StatusNotModified}, Policy: stored("id"),
	}
)

// stored has the gateway store answers until a product changes: that of the parameter, or any one without a parameter.
// The time is for events that are lost, and for gateways that do not share a cache.
func stored(parameter string) policy.Policy {
	return policy.Policy{Cache: &policy.Cache{
		TTL:                 policy.Duration(10 * time.Second),
		StaleIfError:        policy.Duration(time.Minute),
		InvalidatedBy:       []string{"POST /api/products", "PATCH /api/products/{id}", "DELETE /api/products/{id}"},
		InvalidatedByEvents: []policy.CacheEvent{{Type: events.ProductChanged.Name(), Subject: parameter}},
	}}
}

type listInput struct{ function.Paging }

func (c *catalog) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Product], error) {
	page, err := c.products.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "deleted", Op: store.Equal, Value: false}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[product]) Product { return item.Value.shown(item.ID) }), nil
}

type getInput struct {
	ID          string `path:"id" maxLength:"128" doc:"The product's id."`
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that the caller has; 304 if one is the product's."`
}

type productOutput struct {
	Status   int
	Location string `header:"Location"`
	ETag     string `header:"ETag" doc:"The version of the product; If-Match takes it."`
	Body     Product
}

func (c *catalog) get(ctx context.Context, tx *function.Tx, in *getInput) (*productOutput, error) {
	p, version, err := c.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &productOutput{ETag: etag(version), Body: p.shown(in.ID)}
	if httprequest.NoneMatch(in.IfNoneMatch, out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

// find returns a product with its version; fault.NotFound when it is missing or was removed.
func (c *catalog) find(ctx context.Context, tx *function.Tx, id string) (product, int64, error) {
	p, version, err := c.products.Read(ctx, tx, id)
	if err == nil && (version == 0 || p.Deleted) {
		err = fault.New(fault.NotFound, "there is no such product")
	}
	return p, version, err
}
