//go:build !unix

package local

// lock relies on the databases' own locks where there is no flock.
func lock(string) (unlock func() error, err error) { return func() error { return nil }, nil }
