package users

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
)

var showKeys = function.Operation{
	Method: http.MethodGet, Path: "/.well-known/jwks.json", Access: function.Public,
	Summary:     "Keys that tokens are checked with",
	Description: "A JWK Set (RFC 7517). The first key signs; the others are there for tokens of before.",
}

type keysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         auth.JWKS
}

// keys answers what a verifier may keep for five minutes: a new key is published at least that long before it
// signs anything.
func (u *users) keys(context.Context, *function.Tx, *struct{}) (*keysOutput, error) {
	return &keysOutput{CacheControl: "public, max-age=300", Body: u.rings.Now().Public()}, nil
}
