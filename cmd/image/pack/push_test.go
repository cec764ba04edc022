package pack_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ebb-dev/ebb/cmd/image/pack"
)

// serve serves a registry on loopback and returns a name in it. It uses no credentials of this machine.
func serve(t *testing.T, h http.Handler) name.Tag {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	tag, err := pack.ParseName(strings.TrimPrefix(s.URL, "http://")+"/shop/function:1", "v0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func quiet() registry.Option { return registry.Logger(log.New(io.Discard, "", 0)) }

// A pushed image can be pulled by its name, for both platforms. Its bill of materials is found by a query for
// referrers, on a registry with that API and on one that uses the fallback tag.
func TestPush(t *testing.T) {
	for kind, referrers := range map[string]bool{"with referrers": true, "without": false} {
		t.Run(kind, func(t *testing.T) {
			tag := serve(t, registry.New(quiet(), registry.WithReferrersSupport(referrers)))
			m := made(t, amd64, arm64)
			// Twice: a second push must succeed too.
			for range 2 {
				if err := pack.Push(t.Context(), tag, m.Top, m.Images, m.SBOMs); err != nil {
					t.Fatal(err)
				}
			}
			index, err := remote.Index(tag)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(index); err != nil {
				t.Error(err)
			}
			got, _ := index.Digest()
			if want, _ := m.Top.Digest(); got != want {
				t.Errorf("pulled %s: want %s", got, want)
			}
			for i, img := range m.Images {
				digest, _ := img.Digest()
				checkReferrer(t, tag.Context().Digest(digest.String()), m.SBOMs[i])
			}
		})
	}
}

// checkReferrer finds a bill of materials through the registry's API.
func checkReferrer(t *testing.T, image name.Digest, sbom []byte) {
	t.Helper()
	index, err := remote.Referrers(image)
	if err != nil {
		t.Fatal(err)
	}
	all, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Manifests) != 1 {
		t.Fatalf("got %d referrers: want one", len(all.Manifests))
	}
	d, err := remote.Get(image.Context().Digest(all.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		ArtifactType string `json:"artifactType"`
		Config       struct{ MediaType string }
		Layers       []struct{ MediaType, Digest string }
		Subject      struct{ Digest string }
	}
	if err := json.Unmarshal(d.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.ArtifactType != pack.SBOMType || m.Subject.Digest != image.DigestStr() || len(m.Layers) != 1 ||
		m.Layers[0].MediaType != pack.SBOMType {
		t.Fatalf("got referrer %s", d.Manifest)
	}
	layer, err := remote.Layer(image.Context().Digest(m.Layers[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if got, err := io.ReadAll(content); err != nil || !bytes.Equal(got, sbom) {
		t.Errorf("got %d bytes, %v: want the bill of materials of %d bytes", len(got), err, len(sbom))
	}
}

// An image of one platform is pushed without an index.
func TestPushOnePlatform(t *testing.T) {
	tag := serve(t, registry.New(quiet()))
	m := made(t, amd64)
	if err := pack.Push(t.Context(), tag, m.Top, m.Images, m.SBOMs); err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

// The tag moves last, so that an interrupted push leaves the old image.
func TestTheTagMovesLast(t *testing.T) {
	var tagged int
	reg := registry.New(quiet())
	tag := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			if strings.HasSuffix(r.URL.Path, "/manifests/1") {
				tagged++
			} else if tagged > 0 {
				t.Errorf("%s was sent after the tag", r.URL.Path)
			}
		}
		reg.ServeHTTP(w, r)
	}))
	m := made(t, amd64, arm64)
	if err := pack.Push(t.Context(), tag, m.Top, m.Images, m.SBOMs); err != nil {
		t.Fatal(err)
	}
	if tagged != 1 {
		t.Errorf("the tag moved %d times", tagged)
	}
}

// The error for a refused push names the registry and what to do, in one sentence.
func TestRefusedPush(t *testing.T) {
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
			}
			if code == http.StatusForbidden && r.URL.Path == "/v2/" {
				return
			}
			w.WriteHeader(code)
		})
	}
	m := made(t, amd64)
	for want, h := range map[string]http.Handler{
		"requires a login: run docker login":          status(http.StatusUnauthorized),
		"does not allow you to push to shop/function": status(http.StatusForbidden),
		"refused": status(http.StatusTeapot),
	} {
		tag := serve(t, h)
		err := pack.Push(t.Context(), tag, m.Top, m.Images, m.SBOMs)
		if err == nil || !strings.HasPrefix(err.Error(), tag.RegistryStr()+" "+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	tag, err := pack.ParseName(strings.TrimPrefix(gone.URL, "http://")+"/shop/function:1", "")
	if err != nil {
		t.Fatal(err)
	}
	err = pack.Push(t.Context(), tag, m.Top, m.Images, m.SBOMs)
	if err == nil || !strings.HasPrefix(err.Error(), "cannot reach registry "+tag.RegistryStr()+": ") {
		t.Errorf("no server: got %v", err)
	}
}
