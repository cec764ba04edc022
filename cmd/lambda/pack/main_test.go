package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The program has no packages that nothing on Lambda needs, and that are a part of its size which is seen.
func TestPackages(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-tags", tags, "github.com/ebb-dev/ebb/cmd/lambda")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	for _, unwanted := range []string{
		"net/rpc", "github.com/jackc/pgx/v5", "github.com/redis/go-redis/v9", "github.com/nats-io/nats.go",
		"github.com/aws/aws-sdk-go-v2/service/sqs", "github.com/aws/aws-sdk-go-v2/service/s3",
		"cloud.google.com/go/firestore", "zombiezen.com/go/sqlite", "github.com/spf13/cobra",
	} {
		if slices.Contains(packages, unwanted) {
			t.Errorf("the program has %s", unwanted)
		}
	}
	if !slices.Contains(packages, "github.com/aws/aws-sdk-go-v2/service/dynamodb") {
		t.Errorf("got %d packages, without DynamoDB's client", len(packages))
	}
}
