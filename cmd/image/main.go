// Command image makes the OCI image of a Go command without a container engine. It writes an archive or pushes to a
// registry, with a bill of materials. It is a separate module, so that libraries for registries stay out of the
// project's go.mod.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ebb-dev/ebb/cmd/image/pack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, pkg, name, out, root string
	platforms                 []pack.Platform
	push, twice               bool

	licenses            bool   // only list them
	key                 string // file with the key that signs the provenance
	verify, pub, digest string // only verify: files, and what the provenance must speak of
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error
	flags.StringVar(&o.dir, "C", ".", "the folder of the Go module")
	flags.StringVar(&o.pkg, "package", "./cmd/function", "the command")
	flags.StringVar(&o.name, "name", "",
		"the image's name with its registry (default dev.local/MODULE/COMMAND, with the last part of the\nmodule path; a "+
			"tag that is left out is the version)")
	flags.StringVar(&o.out, "out", "bin/image.tar",
		"the archive to write without -push; the bills of materials go into the same folder")
	flags.StringVar(&o.root, "root", "", "write only the root file system into this folder")
	flags.BoolVar(&o.push, "push", false,
		"push to the registry in the name, with the credentials of docker login or podman login")
	flags.BoolVar(&o.twice, "twice", false,
		"build again from a copy in another folder, and fail unless all bytes are the same")
	flags.BoolVar(&o.licenses, "licenses", false,
		"only list the licenses of the modules that the command is built from; fails if one has no known license")
	flags.StringVar(&o.key, "key", "",
		"sign the provenance with this Ed25519 key (openssl genpkey -algorithm ed25519) into the folder of -out")
	flags.StringVar(&o.verify, "verify", "", "only verify this provenance, with -pub and -digest")
	flags.StringVar(&o.pub, "pub", "", "the public side of the key (openssl pkey -pubout), for -verify")
	flags.StringVar(&o.digest, "digest", "", "what the provenance must speak of, as sha256:HEX, for -verify")
	platforms := flags.String("platform", "linux/amd64,linux/arm64", "the platforms to build for")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(out)
		flags.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see -help", err)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; see -help", flags.Arg(0))
	}
	if o.push && o.name == "" {
		return o, fmt.Errorf("missing name of the image to push: IMAGE=registry.example.com/shop/function:1")
	}
	var err error
	if o.platforms, err = pack.ParsePlatforms(*platforms); err == nil && o.root != "" && len(o.platforms) > 1 {
		err = fmt.Errorf("-root needs exactly one -platform")
	}
	return o, err
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if o.verify != "" {
		return verify(out, o)
	}
	if o.licenses {
		return listLicenses(ctx, out, o)
	}
	var key ed25519.PrivateKey
	if o.key != "" { // before the build, which takes a while
		text, err := os.ReadFile(o.key)
		if err != nil {
			return err
		}
		if key, err = pack.ParsePrivateKey(text); err != nil {
			return fmt.Errorf("%s: %w", o.key, err)
		}
	}
	facts, err := pack.ReadFacts(ctx, o.dir, getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	if o.root != "" {
		b, err := pack.Build(ctx, o.dir, o.pkg, o.platforms[0])
		if err != nil {
			return err
		}
		return pack.WriteRoot(o.root, b)
	}
	if o.name == "" {
		// Knative uses images of dev.local from the node, and does not ask a registry for their digest.
		o.name = "dev.local/" + facts.Name + "/" + filepath.Base(o.pkg)
	}
	tag, err := pack.ParseName(o.name, facts.Version)
	if err != nil {
		return err
	}
	made, err := pack.Make(ctx, o.dir, o.pkg, o.platforms, facts)
	if err != nil {
		return err
	}
	if o.twice {
		if err := buildAgain(ctx, o, facts, made); err != nil {
			return err
		}
		fmt.Fprintln(out, "built twice, from two folders: the same bytes")
	}
	if o.push {
		if err := pack.Push(ctx, tag, made.Top, made.Images, made.SBOMs); err != nil {
			return err
		}
	} else if err := write(o.out, func(w io.Writer) error {
		return pack.Archive(w, tag, made.Top, made.Images,
			facts.Time)
	}); err != nil {
		return err
	}
	if key != nil {
		text, err := pack.Provenance(pack.FullName(tag), made, facts, key)
		if err != nil {
			return err
		}
		path := strings.TrimSuffix(o.out, ".tar") + ".intoto.json"
		if err := write(path, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
			return err
		}
		fmt.Fprintf(out, "provenance in %s\n", path)
	}
	return report(out, o, made, pack.FullName(tag))
}

// verify verifies a provenance without a network.
func verify(out io.Writer, o options) error {
	if o.pub == "" || o.digest == "" {
		return errors.New("-verify needs -pub and -digest")
	}
	text, err := os.ReadFile(o.verify)
	if err != nil {
		return err
	}
	public, err := os.ReadFile(o.pub)
	if err != nil {
		return err
	}
	key, err := pack.ParsePublicKey(public)
	if err != nil {
		return fmt.Errorf("%s: %w", o.pub, err)
	}
	names, err := pack.VerifyProvenance(text, key, o.digest)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "signed, and %s is one of: %s\n", o.digest, strings.Join(names, ", "))
	return nil
}

// listLicenses lists the licenses of the modules of a command.
func listLicenses(ctx context.Context, out io.Writer, o options) error {
	b, err := pack.Build(ctx, o.dir, o.pkg, o.platforms[0])
	if err != nil {
		return err
	}
	var unknown []string
	for _, m := range slices.Sorted(maps.Keys(b.Licenses)) {
		license := b.Licenses[m]
		if license == "" {
			unknown = append(unknown, m)
			license = "unknown"
		}
		fmt.Fprintf(out, "%-30s %s\n", license, m)
	}
	if len(unknown) > 0 {
		return fmt.Errorf("no known license: %s", strings.Join(unknown, ", "))
	}
	return nil
}

// buildAgain builds from a copy of the files in another folder and compares the results.
func buildAgain(ctx context.Context, o options, facts pack.Facts, made pack.Made) error {
	dir, err := os.MkdirTemp("", "image-again-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, o.dir, dir); err != nil {
		return fmt.Errorf("copy the files for a second build: %w", err)
	}
	other, err := pack.Make(ctx, dir, o.pkg, o.platforms, facts)
	if err != nil {
		return fmt.Errorf("build a second time: %w", err)
	}
	return made.Differs(other)
}

// copyTree copies the files that git tracks or would add into another folder.
func copyTree(ctx context.Context, from, to string) error {
	list, err := exec.CommandContext(ctx, "git", "-C", from, "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		return fmt.Errorf("list the files with git: %w", err)
	}
	for _, file := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		body, err := os.ReadFile(filepath.Join(from, file))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		} else if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, file)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, file), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, content func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := content(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// report prints the digest, the size and the location of the image.
func report(out io.Writer, o options, made pack.Made, fullName string) error {
	digest, err := made.Top.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n  digest %s\n", fullName, digest)
	for i, img := range made.Images {
		if err := reportImage(out, made.Binaries[i], img); err != nil {
			return err
		}
	}
	if o.push {
		fmt.Fprintf(out, "  pushed; use it as %s@%s\n", strings.TrimSuffix(fullName, ":"+tagOf(fullName)), digest)
		return nil
	}
	fmt.Fprintf(out, "  in %s, for ctr images import, kind load image-archive, docker load\n", o.out)
	for i, b := range made.Binaries {
		path := strings.TrimSuffix(o.out, ".tar") + "-" + b.Platform.Arch + ".spdx.json"
		if err := write(path, func(w io.Writer) error { _, err := w.Write(made.SBOMs[i]); return err }); err != nil {
			return err
		}
		fmt.Fprintf(out, "  bill of materials in %s\n", path)
	}
	return nil
}

func reportImage(out io.Writer, b pack.Binary, img v1.Image) error {
	size, err := pack.Size(img)
	if err != nil {
		return err
	}
	modules, licensed := pack.Modules(b)
	fmt.Fprintf(out, "  %s: %.1f MB compressed, %.1f MB as a file; %s, %d modules, %d of them with a known license\n",
		b.Platform, float64(size)/1e6, float64(len(b.Bytes))/1e6, b.Info.GoVersion, modules, licensed)
	return nil
}

func tagOf(fullName string) string { return fullName[strings.LastIndex(fullName, ":")+1:] }
