package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/host/local"
)

// maxKeys is the most that is read of a set of keys, in bytes.
const maxKeys = 1 << 20

// keys makes and rotates the keys that access tokens are signed with.
func keys(_ context.Context, t *tool, args []string) error {
	f := t.flags("keys", "generate | public | rotate")
	data := f.String("data", fallback(t.lookup, "EBB_DATA", ".ebb"), "for rotate: directory of the data")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return wrong("keys does one of three things: ebb keys generate, ebb keys public, ebb keys rotate")
	}
	switch rest[0] {
	case "generate":
		return generateKeys(t)
	case "public":
		return publicKeys(t)
	case "rotate":
		if err := local.RotateKeys(*data); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "A new key signs from the next start of ebb dev on; the tokens of the older ones stay valid.")
		return nil
	}
	return wrong("keys knows generate, public and rotate, but not %q", rest[0])
}

// generateKeys prints a new private JWK set: what users is given as EBB_SIGNING_KEYS.
func generateKeys(t *tool) error {
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		return err
	}
	private, err := ring.Marshal()
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, string(private))
	return nil
}

// publicKeys reads a private JWK set and prints the public one: what all functions are given as EBB_VERIFICATION_KEYS.
func publicKeys(t *tool) error {
	private, err := io.ReadAll(io.LimitReader(t.in, maxKeys))
	if err != nil {
		return err
	}
	ring, err := auth.ParseKeyRing(private)
	if err != nil {
		return wrong("standard input holds no private keys, as ebb keys generate prints them: %v", err)
	}
	public, err := json.Marshal(ring.Public())
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, string(public))
	return nil
}
