package config_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
)

// Addresses are shown without their passwords, also in a list, and in a query.
func TestMaskAddresses(t *testing.T) {
	for _, value := range []string{
		"nats://u:sesame@a:4222,nats://v:sesame@b:4222", "nats://a:4222, nats://v:sesame@b:4222",
		"nats://u:ses,ame@a:4222,nats://v:x@b:4222", "postgres://u:ses,ame@a/db", "postgres://u:sesame@a/db?x=1",
		"redis://:sesame@a:1,b:2", "postgres://a/db?user=u&password=sesame", "amqp://u:sesame@a/,amqp://u:sesame@b/",
	} {
		if got := config.Mask(value, false); strings.Contains(got, "ame") {
			t.Errorf("%s is shown as %s", value, got)
		}
	}
	for _, plain := range []string{"a,b", "http://a/,http://b/", "https://a/?x=1,2"} {
		if got := config.Mask(plain, false); got != plain {
			t.Errorf("%s is shown as %s", plain, got)
		}
	}
}
