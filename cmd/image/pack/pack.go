// Package pack makes an OCI image of a command without a container engine, and says by its bill of materials what is in it.
//
// An image has two layers: what every image has (certificates, a user, /tmp), and the command. Nothing in it depends on when, where
// or by whom it was made, so the same commit and the same Go make the same bytes.
package pack

import (
	"bytes"
	"compress/gzip"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Port is where the command listens unless $PORT says otherwise.
const Port = "8080/tcp"

// Image makes the image of one platform.
func Image(b Binary, f Facts) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range []struct {
		files []file
		about string
	}{
		{baseFiles(), "certificates, a user and /tmp"},
		{commandFiles(b), "the command"},
	} {
		layer, err := newLayer(l.files)
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:     layer,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: f.Time}, CreatedBy: "make image", Comment: l.about},
		})
		if err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = b.Platform.OS, b.Platform.Arch, v1.Time{Time: f.Time}
	config.Config = v1.Config{
		User:         user,
		Entrypoint:   []string{"/" + b.Name},
		WorkingDir:   "/",
		ExposedPorts: map[string]struct{}{Port: {}},
		Labels:       f.annotations(b.Name),
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(img, f.annotations(b.Name)).(v1.Image), nil
}

func newLayer(files []file) (v1.Layer, error) {
	content, err := tarOf(files)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching,
		tarball.WithMediaType(types.OCILayer))
}

// Index puts the images of several platforms under one name.
func Index(images []v1.Image, f Facts, title string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: config.OS, Architecture: config.Architecture}},
		})
	}
	return mutate.Annotations(index, f.annotations(title)).(v1.ImageIndex), nil
}

// Size is what a node pulls of an image.
func Size(img v1.Image) (int64, error) {
	m, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}
