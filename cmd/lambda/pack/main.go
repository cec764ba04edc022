// Command pack builds the packages for AWS Lambda: bin/lambda-arm64.zip and bin/lambda-amd64.zip, each with the program
// cmd/lambda as bootstrap. The same source gives the same bytes. The build tag lambda leaves out the client of Redis,
// which is a twelfth of the program and which the gateway has for processes that share their limits and stored answers.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// most is the size in bytes that a package may have.
const most = 15 << 20

func main() {
	for _, arch := range []string{"arm64", "amd64"} {
		path := filepath.Join("bin", "lambda-"+arch+".zip")
		size, err := pack(arch, path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "pack:", err)
			os.Exit(1)
		}
		fmt.Printf("%s: %.1f MB\n", path, float64(size)/1e6)
		if size > most {
			fmt.Fprintf(os.Stderr, "pack: %s has %d bytes, more than %d\n", path, size, most)
			os.Exit(1)
		}
	}
}

// pack builds the program for an architecture and writes its package. It returns the size of the package.
func pack(arch, path string) (int, error) {
	dir, err := os.MkdirTemp("", "lambda")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda", "-ldflags", "-s -w -buildid=",
		"-o", program, "./cmd/lambda")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("build for %s: %w", arch, err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return 0, err
	}
	data, err := archive(binary)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	return len(data), err
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
