package open_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/blob/open"
	_ "github.com/ebb-dev/ebb/infra/blob/open/google"
	"github.com/ebb-dev/ebb/infra/fault"
)

// A URL opens its store. One of a store that the program lacks, and one that is none, are told apart.
func TestByURL(t *testing.T) {
	for url, want := range map[string]string{
		"gs://shop": "gs://shop/a", "file:" + t.TempDir(): "", "file://" + t.TempDir(): "",
	} {
		d, err := open.ByURL(t.Context(), url)
		if err != nil || want != "" && d.URI("a") != want {
			t.Errorf("%s: got %v, %v", url, d, err)
		}
	}
	for url, want := range map[string]string{
		"s3://shop": "infra/blob/open/aws", "gs://No": "invalid name", "ftp://shop": "want s3://BUCKET",
		"": "want s3://BUCKET",
	} {
		d, err := open.ByURL(t.Context(), url)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || d != nil {
			t.Errorf("%s: got %v, %v", url, d, err)
		}
	}
}
