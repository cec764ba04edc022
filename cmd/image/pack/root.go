package pack

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The user in the container. Kubernetes checks the number for runAsNonRoot; it is the one of distroless images.
const user = "65532:65532"

// RootsModule is the path of the module with the trusted certificates.
const RootsModule = "golang.org/x/crypto/x509roots/fallback"

// file is a file of the root file system. All files belong to root, and only /tmp is writable.
type file struct {
	name string // ends in / for a folder
	mode int64
	body []byte
}

// baseFiles returns all files but the command. They are the same in each image, so that nodes reuse their layer.
func baseFiles() []file {
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o444, body: []byte("root:x:0:\nnonroot:x:65532:\n")},
		// Without an entry os/user does not find the user, and pgx asks it for the home directory.
		{name: "etc/passwd", mode: 0o444, body: []byte(
			"root:x:0:0:root:/nonexistent:/nonexistent\nnonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent\n")},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o444, body: roots()},
		{name: "tmp/", mode: 0o1777},
	}
}

func commandFiles(b Binary) []file { return []file{{name: b.Name, mode: 0o555, body: b.Bytes}} }

// roots returns Mozilla's list as PEM, for the path where crypto/x509 looks for it. It leaves out certificates that are
// trusted under conditions only, because PEM cannot express them.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		// A write to a buffer does not fail.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return out.Bytes()
}

// RootsVersion returns the version of the list, or "" in a test, which has no build information.
func RootsVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == RootsModule {
				return m.Version
			}
		}
	}
	return ""
}

// modified is the time of all files. It is not the commit's time, so that a commit that changes no file of a layer does
// not change the layer.
var modified = time.Unix(0, 0)

// tarOf returns a layer's content, which is the same for the same files.
func tarOf(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.body)), ModTime: modified,
			Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // writes the end of the tar
		return nil, err
	}
	return out.Bytes(), nil
}

// WriteRoot writes the root file system of an image into a folder, for other tools such as a Dockerfile.
func WriteRoot(dir string, b Binary) error {
	files := append(baseFiles(), commandFiles(b)...)
	for _, f := range files {
		to := filepath.Join(dir, filepath.FromSlash(f.name))
		if strings.HasSuffix(f.name, "/") {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
		} else if err := os.WriteFile(to, f.body, 0o600); err != nil {
			return err
		}
	}
	// Set modes and times last and from the inside out, because a new file changes its folder's time.
	for i := len(files) - 1; i >= 0; i-- {
		to := filepath.Join(dir, filepath.FromSlash(files[i].name))
		mode := os.FileMode(files[i].mode).Perm()
		if files[i].mode&0o1000 != 0 {
			mode |= os.ModeSticky
		}
		if err := os.Chmod(to, mode); err != nil {
			return err
		}
		if err := os.Chtimes(to, modified, modified); err != nil {
			return err
		}
	}
	return nil
}
