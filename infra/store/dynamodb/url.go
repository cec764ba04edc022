package dynamodb

import (
	"net/url"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// ByURL returns the opener of dynamodb://region/table. Without a table it is the one with the function's name. It opens
// nothing itself.
func ByURL(address string) (store.Opener, error) {
	u, err := url.Parse(address)
	table := ""
	if err == nil {
		table = strings.TrimPrefix(u.Path, "/")
	}
	if err != nil || u.Scheme != "dynamodb" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.Contains(table, "/") {
		// without the address, which may have a password meant for another kind of database
		return nil, fault.New(fault.Invalid,
			"invalid address of a DynamoDB table: want dynamodb://region/table, such as dynamodb://eu-central-1/shop-orders")
	}
	return Opener(u.Host, table), nil
}
