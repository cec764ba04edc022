//go:build !unix

package cli

// lockFile does nothing on systems without flock: two commands that refresh one session at the same time end it, and
// the user signs in again.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }
