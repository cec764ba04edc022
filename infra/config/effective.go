package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// masked replaces the value of a secret that is set.
const masked = "***"

// Effective returns a configuration in the form that a main logs at its start: one attribute for each variable, named
// without prefix in lower case. Secrets are masked, and so is a password in a URL that is not tagged as a secret. v is
// a struct or a pointer to one; for anything else Effective returns nil.
func Effective(v any) []slog.Attr {
	value := reflect.Indirect(reflect.ValueOf(v))
	if value.Kind() != reflect.Struct {
		return nil
	}
	spec := reflect.New(value.Type()) // a copy, because gather sets pointers to structs
	spec.Elem().Set(value)
	infos, err := gather("", spec.Interface())
	if err != nil {
		return nil
	}
	attrs := make([]slog.Attr, 0, len(infos))
	for _, i := range infos {
		attrs = append(attrs, slog.Attr{Key: strings.ToLower(i.key), Value: i.effective()})
	}
	return attrs
}

func (i info) effective() slog.Value {
	if i.secret() {
		if i.field.IsZero() {
			return slog.StringValue("")
		}
		return slog.StringValue(masked)
	}
	field := i.field
	if field.Kind() == reflect.Pointer {
		if field.IsNil() {
			return slog.StringValue("")
		}
		field = field.Elem()
	}
	switch v := field.Interface().(type) {
	case url.URL:
		return slog.StringValue(v.Redacted())
	case time.Duration:
		return slog.DurationValue(v)
	case fmt.Stringer:
		return slog.StringValue(redact(v.String()))
	case string:
		return slog.StringValue(redact(v))
	case []string:
		return slog.StringValue(redactAll(v))
	default:
		return plain(field)
	}
}

// plain returns numbers and booleans unchanged, and all else as text.
func plain(field reflect.Value) slog.Value {
	switch {
	case field.Kind() == reflect.Bool:
		return slog.BoolValue(field.Bool())
	case field.CanInt():
		return slog.Int64Value(field.Int())
	case field.CanUint():
		return slog.Uint64Value(field.Uint())
	case field.CanFloat():
		return slog.Float64Value(field.Float())
	}
	return slog.StringValue(redact(fmt.Sprint(field.Interface())))
}

func redactAll(values []string) string {
	shown := make([]string, 0, len(values))
	for _, v := range values {
		shown = append(shown, redact(v))
	}
	return strings.Join(shown, ",")
}

// Mask returns a value as it may be shown: masked if it is a secret, and without the password of a URL.
func Mask(value string, secret bool) string {
	if secret && value != "" {
		return masked
	}
	return redact(value)
}

// redact masks the passwords of a value that looks like a URL with one, or like a list of them.
func redact(value string) string {
	if !holdsPassword(value) {
		return value
	}
	if strings.Count(value, "://") == 1 {
		return redactAddress(value)
	}
	addresses := strings.Split(value, ",")
	for i, a := range addresses {
		if !strings.Contains(a, "://") {
			return masked // it may be a part of a password
		}
		addresses[i] = redactAddress(strings.TrimSpace(a))
	}
	return strings.Join(addresses, ",")
}

func redactAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return masked
	}
	if strings.Contains(u.RawQuery, passwordIs) {
		query := u.Query()
		for name := range query {
			if strings.HasSuffix(name+"=", passwordIs) {
				query.Set(name, "xxxxx") // as Redacted does
			}
		}
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}
