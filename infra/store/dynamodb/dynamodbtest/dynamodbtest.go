// Package dynamodbtest gives tests tables in an emulator of DynamoDB.
package dynamodbtest

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

// Need has the AWS clients of this process talk to an emulator, or skips the test and says what is missing.
func Need(t testing.TB) {
	t.Helper()
	awstest.Need(t)
}

// Stop ends the emulator. TestMain calls it after the tests.
func Stop() { awstest.Stop() }

// CreateTable makes a table as Terraform does, unless it is there.
func CreateTable(t testing.TB, name string) {
	t.Helper()
	settings, err := awsconfig.Load(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = dynamodb.NewFromConfig(settings).CreateTable(context.Background(), &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("p"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("s"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("p"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("s"), KeyType: types.KeyTypeRange},
		},
	})
	var there *types.ResourceInUseException
	if err != nil && !errors.As(err, &there) {
		t.Fatal(err)
	}
}
