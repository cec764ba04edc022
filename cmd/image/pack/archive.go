package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Manifest is the manifest of an image, or an index of several.
type Manifest interface {
	Digest() (v1.Hash, error)
	MediaType() (types.MediaType, error)
	RawManifest() ([]byte, error)
}

// Archive writes a tar that is both an OCI layout with all images, for containerd and kind, and an archive of docker
// save with the first image, for engines without OCI layouts.
func Archive(w io.Writer, tag name.Tag, top Manifest, images []v1.Image, at time.Time) error {
	a := archive{tar: tar.NewWriter(w), at: at, has: make(map[string]bool)}
	a.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	a.add("index.json", layoutIndex(&a, tag, top))
	a.add("manifest.json", dockerManifest(&a, tag, images[0]))
	a.manifest(top)
	for _, img := range images {
		a.image(img)
	}
	if a.err != nil {
		return a.err
	}
	return a.tar.Close()
}

// archive writes a tar. It keeps the first error and writes nothing after it.
type archive struct {
	tar *tar.Writer
	at  time.Time
	has map[string]bool
	err error
}

func (a *archive) add(name string, body []byte) {
	if a.err != nil || a.has[name] {
		return
	}
	a.has[name] = true
	a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)),
		ModTime: a.at, Format: tar.FormatUSTAR})
	if a.err == nil {
		_, a.err = a.tar.Write(body)
	}
}

func (a *archive) keep(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *archive) manifest(m Manifest) {
	digest, err := m.Digest()
	a.keep(err)
	raw, err := m.RawManifest()
	a.keep(err)
	a.add(blob(digest), raw)
}

func (a *archive) image(img v1.Image) {
	a.manifest(img)
	config, err := img.ConfigName()
	a.keep(err)
	raw, err := img.RawConfigFile()
	a.keep(err)
	a.add(blob(config), raw)
	layers, err := img.Layers()
	a.keep(err)
	for _, l := range layers {
		digest, err := l.Digest()
		a.keep(err)
		content, err := l.Compressed()
		if err != nil {
			a.keep(err)
			continue
		}
		body, err := io.ReadAll(content)
		a.keep(err)
		a.keep(content.Close())
		a.add(blob(digest), body)
	}
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// layoutIndex returns the index of the layout. It has the tag as the specification requires, and the full name as
// containerd requires.
func layoutIndex(a *archive, tag name.Tag, top Manifest) []byte {
	digest, err := top.Digest()
	a.keep(err)
	mediaType, err := top.MediaType()
	a.keep(err)
	raw, err := top.RawManifest()
	a.keep(err)
	out, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: mediaType,
			Digest:    digest,
			Size:      int64(len(raw)),
			Annotations: map[string]string{
				"io.containerd.image.name":          FullName(tag),
				"org.opencontainers.image.ref.name": tag.TagStr(),
			},
		}},
	})
	a.keep(err)
	return append(bytes.TrimSpace(out), '\n')
}

func dockerManifest(a *archive, tag name.Tag, img v1.Image) []byte {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	config, err := img.ConfigName()
	a.keep(err)
	e := entry{Config: blob(config), RepoTags: []string{FullName(tag)}}
	layers, err := img.Layers()
	a.keep(err)
	for _, l := range layers {
		digest, err := l.Digest()
		a.keep(err)
		e.Layers = append(e.Layers, blob(digest))
	}
	out, err := json.Marshal([]entry{e})
	a.keep(err)
	return append(out, '\n')
}

// FullName returns the full name as Kubernetes and container engines write it.
func FullName(tag name.Tag) string {
	return strings.Replace(tag.Name(), "index.docker.io/", "docker.io/", 1)
}
