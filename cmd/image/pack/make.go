package pack

import (
	"bytes"
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Made is the result of a build, by platform.
type Made struct {
	Top      Manifest // the index, or the image itself for one platform
	Binaries []Binary
	Images   []v1.Image
	SBOMs    [][]byte
}

// Make builds a command for the platforms and makes an image for each.
func Make(ctx context.Context, dir, pkg string, platforms []Platform, f Facts) (Made, error) {
	var m Made
	for _, p := range platforms {
		b, err := Build(ctx, dir, pkg, p)
		if err != nil {
			return m, err
		}
		img, err := Image(b, f)
		if err != nil {
			return m, fmt.Errorf("make the image for %s: %w", p, err)
		}
		sbom, err := SBOM(img, b, f)
		if err != nil {
			return m, fmt.Errorf("make the bill of materials for %s: %w", p, err)
		}
		m.Binaries, m.Images, m.SBOMs, m.Top = append(m.Binaries, b), append(m.Images, img), append(m.SBOMs, sbom), img
	}
	if len(m.Images) > 1 {
		index, err := Index(m.Images, f, m.Binaries[0].Name)
		if err != nil {
			return m, fmt.Errorf("make the index of the images: %w", err)
		}
		m.Top = index
	}
	return m, nil
}

// Differs returns an error with the first difference of two builds, or nil if all bytes are the same.
func (m Made) Differs(other Made) error {
	for i, b := range m.Binaries {
		if !bytes.Equal(b.Bytes, other.Binaries[i].Bytes) {
			return fmt.Errorf("a second build of %s for %s has other bytes: it is not reproducible", b.Name, b.Platform)
		}
		if !bytes.Equal(m.SBOMs[i], other.SBOMs[i]) {
			return fmt.Errorf("the bill of materials of %s for %s is not reproducible", b.Name, b.Platform)
		}
	}
	digest, err := m.Top.Digest()
	if err != nil {
		return err
	}
	if second, err := other.Top.Digest(); err != nil {
		return err
	} else if second != digest {
		return fmt.Errorf("a second build has another digest, %s and not %s: it is not reproducible", second, digest)
	}
	return nil
}
