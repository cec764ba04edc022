package catalog

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

var (
	addProduct = function.Operation{
		Method: http.MethodPost, Path: "/api/products", Status: http.StatusCreated, Access: function.Only(auth.RoleAdmin),
		Summary: "Add a product",
	}
	changeProduct = function.Operation{
		Method: http.MethodPatch, Path: "/api/products/{id}", Access: function.Only(auth.RoleAdmin),
		Summary: "Change a product",
		Description: "Fields that are left out keep their values. If-Match holds the ETag of the version that the change " +
			"was made for: without it 428, and 412 when the product has changed since.",
		Errors: []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired},
	}
	removeProduct = function.Operation{
		Method: http.MethodDelete, Path: "/api/products/{id}", Status: http.StatusNoContent,
		Access: function.Only(auth.RoleAdmin), Summary: "Remove a product from the catalogue",
		Description: "If-Match is checked when it is given.",
		Errors:      []int{http.StatusPreconditionFailed},
	}
)

type addInput struct {
	Body struct {
		Name  string `json:"name" doc:"1 to 500 characters."`
		Price Money  `json:"price"`
	}
}

func (c *catalog) add(ctx context.Context, tx *function.Tx, in *addInput) (*productOutput, error) {
	p := product{
		Name: strings.TrimSpace(in.Body.Name), Price: in.Body.Price, CreatedAt: tx.Now(), UpdatedAt: tx.Now(),
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	id := tx.NewID()
	if err := c.products.Create(ctx, tx, id, p); err != nil {
		return nil, err
	}
	version, err := c.products.Version(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	tx.Emit(p.changed(id, version))
	return &productOutput{Location: "/api/products/" + id, ETag: etag(version), Body: p.shown(id)}, nil
}

type changeInput struct {
	ID      string `path:"id" maxLength:"128" doc:"The product's id."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is changed."`
	Body    struct {
		Name  *string `json:"name,omitempty" doc:"1 to 500 characters."`
		Price *Money  `json:"price,omitempty"`
	}
}

func (c *catalog) change(ctx context.Context, tx *function.Tx, in *changeInput) (*productOutput, error) {
	if in.IfMatch == "" {
		return nil, fault.New(fault.Invalid, "a change needs an If-Match header with the product's ETag").
			WithStatus(http.StatusPreconditionRequired)
	}
	p, version, err := c.findVersion(ctx, tx, in.ID, in.IfMatch)
	if err != nil {
		return nil, err
	}
	before := p
	if in.Body.Name != nil {
		p.Name = strings.TrimSpace(*in.Body.Name)
	}
	if in.Body.Price != nil {
		p.Price = *in.Body.Price
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	// Each version is one event, so a request that changes nothing makes no version.
	if p != before {
		p.UpdatedAt = tx.Now()
		if version, err = c.save(ctx, tx, in.ID, p); err != nil {
			return nil, err
		}
	}
	return &productOutput{ETag: etag(version), Body: p.shown(in.ID)}, nil
}

type removeInput struct {
	ID      string `path:"id" maxLength:"128" doc:"The product's id."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is changed."`
}

func (c *catalog) remove(ctx context.Context, tx *function.Tx, in *removeInput) (*struct{}, error) {
	p, _, err := c.findVersion(ctx, tx, in.ID, in.IfMatch)
	if err != nil {
		return nil, err
	}
	p.Deleted, p.UpdatedAt = true, tx.Now()
	_, err = c.save(ctx, tx, in.ID, p)
	return nil, err
}

// findVersion returns the product when its version is one that ifMatch names, or ifMatch is empty.
func (c *catalog) findVersion(ctx context.Context, tx *function.Tx, id, ifMatch string) (product, int64, error) {
	p, version, err := c.find(ctx, tx, id)
	if err == nil && ifMatch != "" && !httprequest.Match(ifMatch, etag(version)) {
		err = fault.New(fault.Invalid, "the product has changed since; its ETag is %s now", etag(version)).
			WithStatus(http.StatusPreconditionFailed)
	}
	return p, version, err
}

// save writes the next version of a product and emits its event.
func (c *catalog) save(ctx context.Context, tx *function.Tx, id string, p product) (int64, error) {
	if err := c.products.Put(ctx, tx, id, p); err != nil {
		return 0, err
	}
	version, err := c.products.Version(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	tx.Emit(p.changed(id, version))
	return version, nil
}
