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

// Who runs in the container. The number is what Kubernetes checks runAsNonRoot by, and the one distroless images use.
const user = "65532:65532"

// RootsModule is the module that the trusted certificates come from.
const RootsModule = "golang.org/x/crypto/x509roots/fallback"

// file is one of the root file system. All belong to root, and nobody may write but to /tmp.
type file struct {
	name string // a folder's ends in /
	mode int64
	body []byte
}

// baseFiles are all files but the command: the same in each image, hence a layer that nodes keep.
func baseFiles() []file {
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o444, body: []byte("root:x:0:\nnonroot:x:65532:\n")},
		// Without an entry os/user does not know who runs, which pgx asks for a home.
		{name: "etc/passwd", mode: 0o444, body: []byte(
			"root:x:0:0:root:/nonexistent:/nonexistent\nnonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent\n")},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o444, body: roots()},
		{name: "tmp/", mode: 0o1777},
	}
}

func commandFiles(b Binary) []file { return []file{{name: b.Name, mode: 0o555, body: b.Bytes}} }

// roots is Mozilla's list as PEM, where crypto/x509 looks for it. A root that is trusted under conditions only is left out, for PEM
// cannot say them.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		// Writing to a buffer does not fail.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return out.Bytes()
}

// RootsVersion is the version of the list; empty in a test, which has no build info.
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

// modified is the time of all files, not the commit's: a layer that a commit does not change stays the same, and nodes have it.
var modified = time.Unix(0, 0)

// tarOf is a layer's content: the same bytes for the same files.
func tarOf(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.body)), ModTime: modified, Format: tar.FormatUSTAR}
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
	if err := w.Close(); err != nil { // which writes the end
		return nil, err
	}
	return out.Bytes(), nil
}

// WriteRoot writes the root file system of an image into a folder, for those who make the image by other means.
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
	// Modes and times last, and from the inside out: a new file changes its folder's time.
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
