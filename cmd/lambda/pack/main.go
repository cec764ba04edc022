// Command pack builds the packages for AWS Lambda: bin/lambda-arm64.zip and bin/lambda-amd64.zip, each with the program
// cmd/lambda as bootstrap. The same source gives the same bytes. The build tag lambda leaves out the client of Redis,
// which the gateway has for processes that share their limits and stored answers, and AWS's sources of credentials
// other than the environment. The tag lambda.norpc leaves out what Lambda's former runtime of Go needs.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// most is the size in bytes that a package may have.
const most = 15 << 20

// tags are the build tags of the program.
const tags = "lambda,lambda.norpc"

func main() {
	twice := flag.Bool("twice", false, "build again, from a copy of this folder, and compare the bytes")
	flag.Parse()
	for _, arch := range []string{"arm64", "amd64"} {
		if err := run(arch, *twice); err != nil {
			fmt.Fprintln(os.Stderr, "pack:", err)
			os.Exit(1)
		}
	}
}

// run writes the package for an architecture.
func run(arch string, twice bool) error {
	path := filepath.Join("bin", "lambda-"+arch+".zip")
	data, err := pack(arch, ".")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.1f MB\n", path, float64(len(data))/1e6)
	if len(data) > most {
		return fmt.Errorf("%s has %d bytes, more than %d", path, len(data), most)
	}
	if !twice {
		return nil
	}
	dir, err := os.MkdirTemp("", "lambda-copy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := duplicate(dir); err != nil {
		return err
	}
	again, err := pack(arch, dir)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, again) {
		return fmt.Errorf("%s has other bytes when it is built in another folder", path)
	}
	fmt.Printf("%s: built twice, from two folders: the same bytes\n", path)
	return nil
}

// duplicate copies the files of this folder that Git knows or would take.
func duplicate(dir string) error {
	list, err := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		return fmt.Errorf("list the files: %w", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(name)
		if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // deleted and not committed yet; or a link, of Terraform's environments
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(name)
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pack builds the program for an architecture from a folder and returns its package.
func pack(arch, from string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "lambda")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w -buildid=",
		"-o", program, "./cmd/lambda")
	build.Dir = from
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build for %s: %w", arch, err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	return archive(binary)
}

// archive returns a zip archive with the program as an executable bootstrap, of a fixed time.
func archive(program []byte) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Unix(315532800, 0).UTC()} // 1980
	header.SetMode(0o755)
	f, err := z.CreateHeader(header)
	if err == nil {
		_, err = f.Write(program)
	}
	if err == nil {
		err = z.Close()
	}
	return out.Bytes(), err
}
