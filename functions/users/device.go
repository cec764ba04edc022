package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// A device token is "<id>.<HMAC-SHA256 of the id>", by a key that belongs to the account. It shows that the client has
// signed in to this account before, since its password was set; it opens nothing. A new password makes a new key, so
// all devices are forgotten then, and so they are with the account.

func deviceToken(key, id string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(id))
	return id + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// deviceOf returns the id of a device token of the account with the key; empty if the token is not valid.
func deviceOf(key, token string) string {
	id, _, ok := strings.Cut(token, ".")
	if !ok || id == "" || key == "" || !same(deviceToken(key, id), token) {
		return ""
	}
	return id
}
