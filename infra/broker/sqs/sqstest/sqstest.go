// Package sqstest gives tests an emulator of SNS and SQS.
package sqstest

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

// Need has the AWS clients of this process talk to an emulator, or skips the test and says what is missing.
func Need(t testing.TB) {
	t.Helper()
	awstest.Need(t)
}

// Stop ends the emulator. TestMain calls it after the tests.
func Stop() { awstest.Stop() }
