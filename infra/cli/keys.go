package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/host/local"
)

// maxKeys limits the size of a key set in bytes.
const maxKeys = 1 << 20

func (a *app) keysCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "keys generate | public | rotate",
		Short: "Make signing keys, show their public side, or rotate them",
		Example: a.example(`
$ keys generate > private.json            for EBB_SIGNING_KEYS
$ keys public < private.json              for EBB_VERIFICATION_KEYS
$ keys rotate --data .ebb
$ keys rotate --file private.json         for EBB_SIGNING_KEYS`),
	}
	r := rotation{}
	data := fallback(a.Lookup, "EBB_DATA", a.dataDir())
	root.PersistentFlags().StringVar(&data, "data", data, "for rotate: the data directory")
	f := root.PersistentFlags()
	f.StringVar(&r.file, "file", "", "for rotate: a file with a private JWK set, or - for standard input")
	f.DurationVar(&r.in, "in", time.Hour, "for rotate: after this time the new key signs")
	f.DurationVar(&r.keep, "keep", time.Hour,
		"for rotate: how long a key is kept after its last token; the longest life of an access token at least")
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
			Use:   "rotate",
			Short: "Add a new signing key, which begins to sign when all could learn of it",
			Long: `Add a new signing key to a data directory, or to a file with a private JWK set, or with --file - to the one
on standard input, and print the result. It begins to sign after the time of --in, so that its public side can reach all
functions before. Keys are left out that have not signed for longer than --keep. While a key waits for its time
nothing is added, so the command can run by schedule.`,
			Args: noArgs,
			Example: a.example(`
$ keys rotate --data .ebb                 a running ebb dev learns of it
$ keys rotate --file private.json --in 24h
$ keys rotate --file - < private.json > next.json`),
			RunE: func(*cobra.Command, []string) error { return a.rotateKeys(data, r) },
		},
	)
}

// rotation is the flags of keys rotate.
type rotation struct {
	file     string
	in, keep time.Duration
}

// rotateKeys adds the next key to a file or a data directory.
func (a *app) rotateKeys(data string, r rotation) error {
	if r.in < 0 || r.keep < 0 {
		return usageErrorf("--in and --keep must not be negative")
	}
	if r.file == "-" {
		private, err := io.ReadAll(io.LimitReader(a.In, maxKeys))
		if err != nil {
			return err
		}
		next, _, err := r.rotate(private)
		if err == nil {
			fmt.Fprintln(a.Out, string(next))
		}
		return err
	}
	var from time.Time
	var err error
	if r.file == "" {
		from, err = local.RotateKeys(data, time.Now(), r.in, r.keep)
	} else {
		from, err = r.rotateFile()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "The newest key signs from %s on; the tokens of the older ones stay valid.\n",
		from.Local().Format("2006-01-02 15:04:05 MST"))
	return nil
}

func (r rotation) rotateFile() (from time.Time, err error) {
	private, err := os.ReadFile(r.file)
	if err != nil {
		return from, err
	}
	next, from, err := r.rotate(private)
	if err != nil {
		return from, err
	}
	return from, local.WriteSecret(r.file, append(next, '\n'))
}

// rotate returns the private JWK set with the next key, and when that begins to sign.
func (r rotation) rotate(private []byte) (next []byte, from time.Time, err error) {
	ring, err := auth.ParseKeyRing(private)
	if err != nil {
		return nil, from, usageErrorf("the input is not a private JWK set as keys generate prints it: %v", err)
	}
	if ring, err = ring.Schedule(time.Now(), r.in, r.keep); err != nil {
		return nil, from, err
	}
	next, err = ring.Marshal()
	return next, ring.Next(), err
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
