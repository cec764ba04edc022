package cli

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
)

// credentials are what a user signs in with.
type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Code     string `json:"code,omitempty"`         // of a second factor
	Device   string `json:"device_token,omitempty"` // of an earlier sign-in
}

// adminFile is the file in the data directory with the admin that dev makes when the environment has none.
const adminFile = "admin.json"

// firstAdmin returns the admin of the environment, or else the one of the data directory, which it makes if it is
// missing. made reports whether the admin is from the data directory.
func firstAdmin(name, dir string, lookup config.Lookup) (admin credentials, made bool, err error) {
	if admin, ok := namedAdmin(lookup); ok {
		return admin, false, nil
	}
	path := filepath.Join(dir, adminFile)
	data, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(data, &admin); err != nil {
			return admin, false, fmt.Errorf("%s: %w", path, err)
		}
		return admin, true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return admin, false, err
	}
	admin = credentials{Email: "admin@" + name + ".localhost", Password: strings.ToLower(rand.Text())}
	if data, err = json.Marshal(admin); err == nil {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = local.WriteSecret(path, data)
		}
	}
	return admin, true, err
}

// knownAdmin returns the admin of the environment, or else the one that dev made. It does not make one.
func knownAdmin(dir string, lookup config.Lookup) (credentials, error) {
	if admin, ok := namedAdmin(lookup); ok {
		return admin, nil
	}
	var admin credentials
	data, err := os.ReadFile(filepath.Join(dir, adminFile))
	if err == nil {
		err = json.Unmarshal(data, &admin)
	}
	if err != nil {
		return admin, fmt.Errorf("no admin is known: sign in with login, "+
			"set EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD, or --data to dev's data directory (%w)", err)
	}
	return admin, nil
}

// namedAdmin returns the admin of the environment. It also returns an incomplete one, which users refuses with the
// reason.
func namedAdmin(lookup config.Lookup) (credentials, bool) {
	email, _ := lookup("EBB_ADMIN_EMAIL")
	password, _ := lookup("EBB_ADMIN_PASSWORD")
	code, _ := lookup("EBB_ADMIN_CODE")
	return credentials{Email: email, Password: password, Code: code}, email != "" || password != ""
}

// dataDir returns the default data directory.
func (a *app) dataDir() string { return "." + a.system.Name }

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func fallback(lookup config.Lookup, name, otherwise string) string {
	if value, ok := lookup(name); ok && value != "" {
		return value
	}
	return otherwise
}
