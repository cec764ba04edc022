package pack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ParseName parses a name with its registry; a name without one is refused, because it would mean Docker Hub. version
// is the default tag.
func ParseName(s, version string) (name.Tag, error) {
	registry, _, ok := strings.Cut(s, "/")
	if !ok || !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		return name.Tag{}, fmt.Errorf("image %q has no registry: want a name such as registry.example.com/shop/function:1", s)
	}
	if strings.Contains(s, "@") {
		return name.Tag{}, fmt.Errorf("image %q has a digest: want a tag, because the digest is known only after the build",
			s)
	}
	tag, err := name.NewTag(s, name.WithDefaultTag(version))
	if err != nil {
		return name.Tag{}, fmt.Errorf("invalid image name %q: %w", s, err)
	}
	return tag, nil
}

// Push writes images and their bills of materials to a registry. It moves the tag last, so that the tag never points to
// missing content. The bill of materials of each image is its referrer.
func Push(ctx context.Context, tag name.Tag, top Manifest, images []v1.Image, sboms [][]byte) error {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	for i, img := range images {
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(tag.Context().Digest(digest.String()), img, opts...); err != nil {
			return refused(tag, err)
		}
		if err := attach(tag.Context(), img, sboms[i], opts); err != nil {
			return refused(tag, err)
		}
	}
	if index, ok := top.(v1.ImageIndex); ok {
		if err := remote.WriteIndex(tag, index, opts...); err != nil {
			return refused(tag, err)
		}
		return nil
	}
	if err := remote.Put(tag, top, opts...); err != nil {
		return refused(tag, err)
	}
	return nil
}

// attach makes a bill of materials a referrer of its image by OCI 1.1: a manifest with a subject and an empty config.
func attach(repo name.Repository, img v1.Image, sbom []byte, opts []remote.Option) error {
	a, err := newArtifact(img, sbom)
	if err != nil {
		return err
	}
	for _, blob := range []v1.Layer{a.config, a.content} {
		if err := remote.WriteLayer(repo, blob, opts...); err != nil {
			return err
		}
	}
	digest, _, err := v1.SHA256(strings.NewReader(string(a.raw)))
	if err != nil {
		return err
	}
	return remote.Put(repo.Digest(digest.String()), a, opts...)
}

// artifact is a manifest of something other than an image.
type artifact struct {
	config, content v1.Layer
	raw             []byte
}

func (a artifact) RawManifest() ([]byte, error)        { return a.raw, nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func newArtifact(img v1.Image, sbom []byte) (artifact, error) {
	a := artifact{config: static.NewLayer([]byte("{}"), "application/vnd.oci.empty.v1+json"),
		content: static.NewLayer(sbom, SBOMType)}
	subject, err := describe(img)
	if err != nil {
		return a, err
	}
	config, err := describeLayer(a.config)
	if err != nil {
		return a, err
	}
	content, err := describeLayer(a.content)
	if err != nil {
		return a, err
	}
	a.raw, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  SBOMType,
		Config:        config,
		Layers:        []v1.Descriptor{content},
		Subject:       &subject,
	})
	return a, err
}

func describe(img v1.Image) (v1.Descriptor, error) {
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := img.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := img.MediaType()
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, err
}

func describeLayer(l v1.Layer) (v1.Descriptor, error) {
	digest, err := l.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := l.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := l.MediaType()
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, err
}

// refused returns an error of one sentence with the reason why a registry refused an image.
func refused(tag name.Tag, err error) error {
	registry := tag.RegistryStr()
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusUnauthorized:
			return fmt.Errorf("%s requires a login: run docker login %s, or podman login", registry, registry)
		case http.StatusForbidden:
			return fmt.Errorf("%s does not allow you to push to %s", registry, tag.RepositoryStr())
		}
		return fmt.Errorf("%s refused %s: %w", registry, FullName(tag), answer)
	}
	var dial *net.OpError
	if errors.As(err, &dial) {
		return fmt.Errorf("cannot reach registry %s: %w", registry, dial)
	}
	var call *url.Error
	if errors.As(err, &call) {
		return fmt.Errorf("cannot reach registry %s: %w", registry, call.Err)
	}
	return fmt.Errorf("push %s: %w", FullName(tag), err)
}
