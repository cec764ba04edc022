package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ebb-dev/ebb/cmd/image/internal/shop"
)

func unset(string) string { return "" }

// Without -push the tool writes an archive and bills of materials, and prints the digest, size and location. A second
// build in another folder has the same bytes.
func TestArchive(t *testing.T) {
	dir := shop.Module(t)
	out := filepath.Join(t.TempDir(), "new", "image.tar")
	var said bytes.Buffer
	if err := run(t.Context(), []string{"-C", dir, "-out", out, "-platform", "linux/amd64", "-twice"}, unset,
		&said); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != "amd64" || c.Config.Labels["org.opencontainers.image.source"] != "https://example.com/shop" {
		t.Errorf("got architecture %s, labels %v", c.Architecture, c.Config.Labels)
	}
	sbom, err := os.ReadFile(strings.TrimSuffix(out, ".tar") + "-amd64.spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"SPDX-2.3", "pkg:golang/github.com/google/licensecheck@v", "BSD-3-Clause"} {
		if !bytes.Contains(sbom, []byte(part)) {
			t.Errorf("missing %s in the bill of materials", part)
		}
	}
	for _, part := range []string{"the same bytes", "dev.local/shop/function:v0.0.0-20261124100000-", "digest sha256:",
		"linux/amd64: ", "MB compressed", out} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("missing %q in the output:\n%s", part, &said)
		}
	}
}

// With -push the tool pushes the image and prints its name with the digest.
func TestPush(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(s.Close)
	repo := strings.TrimPrefix(s.URL, "http://") + "/shop/function"
	var said bytes.Buffer
	if err := run(t.Context(), []string{"-C", shop.Module(t), "-name", repo + ":1", "-push"}, unset, &said); err != nil {
		t.Fatal(err)
	}
	by := regexp.MustCompile(`use it as (\S+)`).FindStringSubmatch(said.String())
	if by == nil {
		t.Fatalf("missing name with digest in the output:\n%s", &said)
	}
	ref, err := name.NewDigest(by[1])
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 2 {
		t.Errorf("got %d platforms, %v: want 2", len(m.Manifests), err)
	}
}

func TestBadInput(t *testing.T) {
	dir := shop.Module(t)
	for want, args := range map[string][]string{
		"unknown package ./cmd/functoin":            {"-C", dir, "-package", "./cmd/functoin"},
		"no go.mod in ":                             {"-C", t.TempDir()},
		"missing name of the image to push: ":       {"-C", dir, "-push"},
		`image "function:1" has no registry`:        {"-C", dir, "-name", "function:1"},
		`unknown platform "linux/s390x"`:            {"-C", dir, "-platform", "linux/s390x"},
		"-root needs exactly one -platform":         {"-C", dir, "-root", t.TempDir()},
		`unexpected argument "push"`:                {"push"},
		`invalid image name "dev.local/A:1"`:        {"-C", dir, "-name", "dev.local/A:1"},
		`image "dev.local/a@sha256:0" has a digest`: {"-C", dir, "-name", "dev.local/a@sha256:0"},
	} {
		err := run(t.Context(), args, unset, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: got %v, want %s", args, err, want)
		}
	}
}

// The Dockerfile runs this tool, so it builds with the same flags. It copies the folder that its RUN makes, and that
// folder has the image's files with the same bytes, modes and times. User, port and entry point are the image's too.
func TestDockerfileMakesTheSame(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	line := func(pattern string) string {
		m := regexp.MustCompile(`(?m)^`+pattern+`$`).FindAllStringSubmatch(string(text), -1)
		if len(m) != 1 {
			t.Fatalf("the Dockerfile has %d lines %s: want one", len(m), pattern)
		}
		return m[0][1]
	}
	dir, root := shop.Module(t), t.TempDir()
	tool := strings.NewReplacer("$TARGETARCH", "amd64", "/rootfs", root, "../..", dir)
	if err := run(t.Context(), strings.Fields(tool.Replace(line(`RUN go -C cmd/image run \. (.*)`))), unset,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	line(`(FROM scratch)`)
	line(`(COPY --from=build /rootfs/ /)`)

	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := run(t.Context(), []string{"-C", dir, "-platform", "linux/amd64", "-out", archive}, unset,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if user := line(`USER (.*)`); user != c.Config.User {
		t.Errorf("the Dockerfile's user is %s, the image's %s", user, c.Config.User)
	}
	if _, ok := c.Config.ExposedPorts[line(`EXPOSE (.*)`)+"/tcp"]; !ok {
		t.Errorf("the image's ports are %v", c.Config.ExposedPorts)
	}
	if entry := line(`ENTRYPOINT \["(.*)"\]`); len(c.Config.Entrypoint) != 1 || entry != c.Config.Entrypoint[0] {
		t.Errorf("the Dockerfile runs %s, the image %v", entry, c.Config.Entrypoint)
	}
	compare(t, root, img)
}

// compare compares a folder with the files of an image's layers.
func compare(t *testing.T, root string, img v1.Image) {
	t.Helper()
	want := make(map[string]bool)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			want[filepath.Clean(h.Name)] = true
			path := filepath.Join(root, h.Name)
			info, err := os.Stat(path)
			if err != nil {
				t.Error(err)
				continue
			}
			if info.Mode() != h.FileInfo().Mode() || !info.ModTime().Equal(h.ModTime) {
				t.Errorf("%s is %s of %s: want %s of %s", h.Name, info.Mode(), info.ModTime().UTC(), h.FileInfo().Mode(),
					h.ModTime.Format(time.RFC3339))
			}
			if info.Mode().IsRegular() {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%s differs, %v", h.Name, err)
				}
			}
		}
	}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); rel != "." && !want[rel] {
			t.Errorf("unexpected file %s", rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
