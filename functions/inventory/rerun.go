package inventory

import (
	"encoding/json"
	"net/http"
	"net/url"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/rerun"
)

// Rerun tells how stock is counted again: inventory.stock-changed has all that is stored of it.
func Rerun() *rerun.Recipe { return &rerun.Recipe{Request: requestOf, Document: documentOf} }

// requestOf returns the request that has set the available stock of a product.
func requestOf(emitted []ce.Event, _ rerun.Past) (rerun.Request, bool) {
	for _, e := range emitted {
		s, err := events.StockChanged.Decode(e)
		if err != nil {
			continue
		}
		return rerun.Request{
			Method: http.MethodPut, Path: "/api/stock/" + url.PathEscape(s.ProductID), Subject: "shop",
			Roles: []string{auth.RoleAdmin}, Body: map[string]int{"available": s.Available},
		}, true
	}
	return rerun.Request{}, false
}

// documentOf returns the stock of a product.
func documentOf(fact ce.Event) (rerun.Document, bool) {
	s, err := events.StockChanged.Decode(fact)
	if err != nil {
		return rerun.Document{}, false
	}
	data, err := json.Marshal(Stock(s))
	return rerun.Document{Collection: "stock", ID: s.ProductID, Data: data}, err == nil
}
