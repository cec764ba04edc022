package dynamodb

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// calls are those that a Store makes of its client. They are functions, because a client in a field has the linker keep
// every operation that DynamoDB has, and a package for Lambda a third of a megabyte more.
type calls struct {
	getItem            call[dynamodb.GetItemInput, dynamodb.GetItemOutput]
	putItem            call[dynamodb.PutItemInput, dynamodb.PutItemOutput]
	query              call[dynamodb.QueryInput, dynamodb.QueryOutput]
	transactGetItems   call[dynamodb.TransactGetItemsInput, dynamodb.TransactGetItemsOutput]
	transactWriteItems call[dynamodb.TransactWriteItemsInput, dynamodb.TransactWriteItemsOutput]
}

type call[In, Out any] func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error)

func callsOf(c *dynamodb.Client) calls {
	return calls{
		getItem: c.GetItem, putItem: c.PutItem, query: c.Query, transactGetItems: c.TransactGetItems,
		transactWriteItems: c.TransactWriteItems,
	}
}
