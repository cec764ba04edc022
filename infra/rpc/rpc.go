// Package rpc lets clients call the operations of a function by gRPC, gRPC-Web and Connect too.
//
//	//go:embed catalogv1/catalog.binpb
//	var schema []byte
//
//	function.Serve(f, getProduct, c.get)
//	rpc.Serve(f, "ebb.catalog.v1.CatalogService", schema)
//
// A service is a part of the function's manifest and runs nothing: each of its methods has a google.api.http option
// that names the method and the path of an operation. The gateway turns a call into a request for that operation, and
// its response into that of the call. So there is one implementation of each operation, and a call has the access, the
// policy, the unit of work, the Idempotency-Key and the failures of the operation. See package transcode for the rules.
package rpc

import (
	"fmt"
	"regexp"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

var serviceName = regexp.MustCompile(`^[a-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+$`)

// Serve declares an RPC service by its full name. The schema is a FileDescriptorSet that has its file, and the files
// that it imports except those of google.protobuf and google.api. It panics on a name without a package. Nothing is
// parsed here, so that a function starts as quickly with a service as without: transcode.Check tells whether the schema
// fits.
func Serve(f *function.Function, name string, schema []byte) {
	if !serviceName.MatchString(name) {
		panic(fmt.Sprintf("function %s: invalid service %q: want a name with its package, such as shop.v1.CartService",
			f.Name(), name))
	}
	hook := f.Instance().(interface{ DeclareService(manifest.Service) })
	hook.DeclareService(manifest.Service{Name: name, Schema: schema})
}
