package catalog

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Money is a price in minor units (cents) of a currency.
type Money struct {
	Amount   int64  `json:"amount" minimum:"0" maximum:"1000000000000" doc:"In minor units of the currency."`
	Currency string `json:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217 code."`
}

// Product is the API's form of a product.
type Product struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Price     Money     `json:"price"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// product is the stored form of a product.
type product struct {
	Name      string    `json:"name"`
	Price     Money     `json:"price"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Deleted   bool      `json:"deleted"`
}

func (p product) shown(id string) Product {
	return Product{ID: id, Name: p.Name, Price: p.Price, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt}
}

// changed returns the event of one version of the product. Version 1 is the product's creation.
func (p product) changed(id string, version int64) event.Draft {
	return events.ProductChanged.New(id, events.ChangedProduct{
		ProductID: id, Name: p.Name, Price: events.Money(p.Price),
		Version: int(version), Created: version == 1, Deleted: p.Deleted,
	})
}

const (
	maxName   = 500
	maxAmount = 1_000_000_000_000
)

// check returns one error with everything that is invalid in the product, or nil.
func (p product) check() error {
	var details []fault.Detail
	at := func(location, message string) {
		details = append(details, fault.Detail{Location: location, Message: message})
	}
	if n := utf8.RuneCountInString(p.Name); n == 0 || n > maxName {
		at("body.name", "must have 1 to 500 characters, not counting leading and trailing blanks")
	}
	if strings.ContainsFunc(p.Name, unicode.IsControl) {
		at("body.name", "must not have control characters")
	}
	if p.Price.Amount < 0 || p.Price.Amount > maxAmount {
		at("body.price.amount", "must be 0 to 1000000000000")
	}
	if !knownCurrency(p.Price.Currency) {
		at("body.price.currency", "is not the code of a currency in use (ISO 4217)")
	}
	if details == nil {
		return nil
	}
	return fault.New(fault.Invalid, "the product is not valid").With(details...)
}

// etag returns the entity tag of a version (RFC 9110 section 8.8.3).
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
