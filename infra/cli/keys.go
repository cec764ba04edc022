package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/host/local"
)

// maxKeys limits the size of a key set in bytes.
const maxKeys = 1 << 20

func (a *app) keysCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "keys generate | public | rotate",
		Short: "Make signing keys, show their public side, or rotate those of the data directory",
		Example: a.example(`
$ keys generate > private.json            for EBB_SIGNING_KEYS
$ keys public < private.json              for EBB_VERIFICATION_KEYS
$ keys rotate --data .ebb`),
	}
	data := fallback(a.Lookup, "EBB_DATA", a.dataDir())
	root.PersistentFlags().StringVar(&data, "data", data, "for rotate: the data directory")
	return group(
		root,
		&cobra.Command{
			Use:     "generate",
			Short:   "Print a new private JWK set",
			Args:    noArgs,
			Example: a.example("$ keys generate > private.json"),
			RunE:    func(*cobra.Command, []string) error { return a.generateKeys() },
		},
		&cobra.Command{
			Use:     "public",
			Short:   "Print the public side of the private JWK set on standard input",
			Args:    noArgs,
			Example: a.example("$ keys public < private.json"),
			RunE:    func(*cobra.Command, []string) error { return a.publicKeys() },
		},
		&cobra.Command{
			Use:     "rotate",
			Short:   "Add a new signing key to a data directory",
			Args:    noArgs,
			Example: a.example("$ keys rotate --data .ebb"),
			RunE: func(*cobra.Command, []string) error {
				if err := local.RotateKeys(data); err != nil {
					return err
				}
				fmt.Fprintf(a.Out, "A new key signs from the next start of %s dev on; "+
					"the tokens of the older ones stay valid.\n", a.Name)
				return nil
			},
		},
	)
}

// generateKeys prints a new private JWK set, the value of EBB_SIGNING_KEYS for users.
func (a *app) generateKeys() error {
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		return err
	}
	private, err := ring.Marshal()
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, string(private))
	return nil
}

// publicKeys reads a private JWK set and prints the public one, the value of EBB_VERIFICATION_KEYS for all functions.
func (a *app) publicKeys() error {
	private, err := io.ReadAll(io.LimitReader(a.In, maxKeys))
	if err != nil {
		return err
	}
	ring, err := auth.ParseKeyRing(private)
	if err != nil {
		return usageErrorf("standard input is not a private JWK set as keys generate prints it: %v", err)
	}
	public, err := json.Marshal(ring.Public())
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, string(public))
	return nil
}
