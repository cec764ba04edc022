package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ebb-dev/ebb/cmd/image/internal/shop"
	"github.com/ebb-dev/ebb/cmd/image/pack"
)

var (
	amd64 = pack.Platform{OS: "linux", Arch: "amd64"}
	arm64 = pack.Platform{OS: "linux", Arch: "arm64"}
)

// The facts of a commit and a fake binary: the tests of images need no compiler.
func facts() pack.Facts {
	return pack.Facts{
		Source: "https://example.com/shop", Revision: "0123456789abcdef", Version: "v1.2.3", License: "Apache-2.0",
		Time: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC),
	}
}

func binary(p pack.Platform) pack.Binary {
	return pack.Binary{
		Platform: p,
		Name:     "function",
		Bytes:    bytes.Repeat([]byte(p.String()), 1000),
		Info: &debug.BuildInfo{
			GoVersion: "go1.26.1",
			Path:      "example.com/shop/cmd/function",
			Main:      debug.Module{Path: "example.com/shop", Version: "(devel)"},
			Deps: []*debug.Module{
				{Path: "example.com/licensed", Version: "v1.0.0", Sum: "h1:abc="},
				{Path: "example.com/forked", Version: "v2.0.0", Replace: &debug.Module{Path: "example.com/fork",
					Version: "v2.0.1"}},
			},
		},
		Licenses: map[string]string{"example.com/licensed@v1.0.0": "MIT", "example.com/forked@v2.0.0": ""},
	}
}

func image(t *testing.T, b pack.Binary, f pack.Facts) v1.Image {
	t.Helper()
	img, err := pack.Image(b, f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type entry struct {
	*tar.Header
	body []byte
}

// files returns the files of the image as a container sees them.
func files(t *testing.T, img v1.Image) map[string]entry {
	t.Helper()
	all := make(map[string]entry)
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
			all[h.Name] = entry{h, body}
		}
	}
	return all
}

// An image holds only the command, certificates, a user and /tmp; it has no shell. Only /tmp is writable.
func TestFilesOfAnImage(t *testing.T) {
	b := binary(amd64)
	got := files(t, image(t, b, facts()))
	want := map[string]int64{
		"etc/": 0o755, "etc/group": 0o444, "etc/passwd": 0o444, "etc/ssl/": 0o755, "etc/ssl/certs/": 0o755,
		"etc/ssl/certs/ca-certificates.crt": 0o444, "function": 0o555, "tmp/": 0o1777,
	}
	for name, mode := range want {
		f, ok := got[name]
		if !ok {
			t.Errorf("missing %s", name)
			continue
		}
		if f.Mode != mode || f.Uid != 0 || f.Gid != 0 {
			t.Errorf("%s is %o of %d:%d: want %o of 0:0", name, f.Mode, f.Uid, f.Gid, mode)
		}
		if f.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %s: want none", name, f.ModTime)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("unexpected file %s", name)
		}
	}
	if !bytes.Equal(got["function"].body, b.Bytes) {
		t.Error("the command has other bytes")
	}
	if !strings.Contains(string(got["etc/passwd"].body), "\nnonroot:x:65532:65532:") {
		t.Error("65532 has no entry in /etc/passwd")
	}
}

// Each layer is a complete tar with two empty blocks at its end, which Go's reader does not need, but others do.
func TestLayersAreComplete(t *testing.T) {
	layers, err := image(t, binary(amd64), facts()).Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if len(all)%512 != 0 || !bytes.HasSuffix(all, make([]byte, 1024)) {
			t.Errorf("layer %d ends without empty blocks after %d bytes", i, len(all))
		}
	}
}

// Mozilla's certificates are where Go looks for them, and all can be parsed.
func TestCertificates(t *testing.T) {
	pem := files(t, image(t, binary(amd64), facts()))["etc/ssl/certs/ca-certificates.crt"].body
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("there is no certificate")
	}
	if n := bytes.Count(pem, []byte("BEGIN CERTIFICATE")); n < 80 {
		t.Errorf("got %d certificates: want about 100", n)
	}
}

// A container runs the command as a user without rights, and its labels name the source.
func TestConfigOfAnImage(t *testing.T) {
	img := image(t, binary(arm64), facts())
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.OS != "linux" || c.Architecture != "arm64" || !c.Created.Equal(facts().Time) {
		t.Errorf("got %s/%s, %s", c.OS, c.Architecture, c.Created)
	}
	if c.Config.User != "65532:65532" || !slices.Equal(c.Config.Entrypoint, []string{"/function"}) ||
		len(c.Config.Cmd) > 0 {
		t.Errorf("got entry point %v, command %v, user %s", c.Config.Entrypoint, c.Config.Cmd, c.Config.User)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"source": "https://example.com/shop", "revision": "0123456789abcdef", "version": "v1.2.3", "licenses": "Apache-2.0",
		"created": "2026-11-24T10:00:00Z", "title": "function",
	} {
		key = "org.opencontainers.image." + key
		if c.Config.Labels[key] != want || m.Annotations[key] != want {
			t.Errorf("%s is %q as a label, %q as an annotation: want %q", key, c.Config.Labels[key], m.Annotations[key], want)
		}
	}
}

// The same input makes the same image at any time. Another command or commit makes another image.
func TestSameBytesTwice(t *testing.T) {
	digest := func(b pack.Binary, f pack.Facts) string {
		h, err := image(t, b, f).Digest()
		if err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	first := digest(binary(amd64), facts())
	time.Sleep(1100 * time.Millisecond) // longer than the resolution of times in a tar
	if second := digest(binary(amd64), facts()); second != first {
		t.Errorf("first %s, then %s", first, second)
	}
	changed, later := binary(amd64), facts()
	changed.Bytes = append(changed.Bytes, '!')
	later.Revision = "fedcba9876543210"
	if digest(changed, facts()) == first || digest(binary(amd64), later) == first {
		t.Error("another command, or another commit, has the same digest")
	}
}

// A later commit keeps both layers if the command has the same bytes, and the base layer in any case, so that nodes
// reuse them.
func TestLayersAreShared(t *testing.T) {
	layers := func(b pack.Binary, f pack.Facts) []v1.Descriptor {
		m, err := image(t, b, f).Manifest()
		if err != nil {
			t.Fatal(err)
		}
		return m.Layers
	}
	changed := binary(amd64)
	changed.Bytes = append(changed.Bytes, '!')
	later := facts()
	later.Revision, later.Time = "fedcba9876543210", later.Time.Add(time.Hour)
	before, after := layers(binary(amd64), facts()), layers(changed, later)
	if before[0].Digest != after[0].Digest || before[1].Digest == after[1].Digest {
		t.Errorf("a changed command changes layers %v into %v", before, after)
	}
	if same := layers(binary(amd64), later); same[0].Digest != before[0].Digest || same[1].Digest != before[1].Digest {
		t.Errorf("a later commit changes layers %v into %v", before, same)
	}
}

type document struct {
	Version   string `json:"spdxVersion"`
	ID        string `json:"SPDXID"`
	Namespace string `json:"documentNamespace"`
	Packages  []struct {
		ID      string `json:"SPDXID"`
		Name    string `json:"name"`
		Version string `json:"versionInfo"`
		License string `json:"licenseDeclared"`
		Refs    []struct {
			Locator string `json:"referenceLocator"`
		} `json:"externalRefs"`
	} `json:"packages"`
	Relationships []struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

// The bill of materials names the image by its digest, each module with its version and known license, and the
// dependencies.
func TestSBOM(t *testing.T) {
	b := binary(amd64)
	img := image(t, b, facts())
	raw, err := pack.SBOM(img, b, facts())
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	digest, _ := img.Digest()
	if d.Version != "SPDX-2.3" || !strings.HasSuffix(d.Namespace, digest.String()) {
		t.Errorf("got version %s, namespace %s", d.Version, d.Namespace)
	}
	known := map[string]bool{d.ID: true}
	got := make(map[string]string)
	for _, p := range d.Packages {
		if known[p.ID] {
			t.Errorf("duplicate %s", p.ID)
		}
		known[p.ID] = true
		got[p.Name] = p.Version + " " + p.License
		if p.Name == pack.RootsModule {
			continue // a test has no versions of its own modules
		}
		if len(p.Refs) == 0 || !strings.HasPrefix(p.Refs[0].Locator, "pkg:") {
			t.Errorf("%s has no package URL", p.Name)
		}
	}
	for name, want := range map[string]string{
		"image of function":             digest.String() + " NOASSERTION",
		"example.com/shop/cmd/function": "v1.2.3 Apache-2.0",
		"stdlib":                        "1.26.1 BSD-3-Clause",
		"example.com/licensed":          "v1.0.0 MIT",
		"example.com/fork":              "v2.0.1 NOASSERTION",
	} {
		if got[name] != want {
			t.Errorf("%s is %q: want %q", name, got[name], want)
		}
	}
	if _, ok := got[pack.RootsModule]; !ok {
		t.Error("the certificates are not listed")
	}
	for _, r := range d.Relationships {
		if !known[r.From] || !known[r.To] {
			t.Errorf("%s %s %s: unknown package", r.From, r.Type, r.To)
		}
	}
}

func archive(t *testing.T, made pack.Made) []byte {
	t.Helper()
	tag, err := name.NewTag("dev.local/ebb/function:1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := pack.Archive(&out, tag, made.Top, made.Images, facts().Time); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// made returns a build without using a compiler.
func made(t *testing.T, platforms ...pack.Platform) pack.Made {
	t.Helper()
	var m pack.Made
	for _, p := range platforms {
		b := binary(p)
		img := image(t, b, facts())
		sbom, err := pack.SBOM(img, b, facts())
		if err != nil {
			t.Fatal(err)
		}
		m.Binaries, m.Images, m.SBOMs, m.Top = append(m.Binaries, b), append(m.Images, img), append(m.SBOMs, sbom), img
	}
	if len(platforms) > 1 {
		index, err := pack.Index(m.Images, facts(), "function")
		if err != nil {
			t.Fatal(err)
		}
		m.Top = index
	}
	return m
}

// The archive is an OCI layout with both platforms, under the name that containerd requires.
func TestArchiveIsALayout(t *testing.T) {
	m := made(t, amd64, arm64)
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(archive(t, m))); ; {
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
		shop.Write(t, filepath.Join(dir, h.Name), string(body))
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := m.Top.Digest()
	top := manifest.Manifests[0]
	if len(manifest.Manifests) != 1 || top.Digest != digest {
		t.Errorf("got %v: want %s", manifest.Manifests, digest)
	}
	if top.Annotations["io.containerd.image.name"] != "dev.local/ebb/function:1" ||
		top.Annotations["org.opencontainers.image.ref.name"] != "1" {
		t.Errorf("got annotations %v", top.Annotations)
	}
	inner, err := index.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	both, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, p := range both.Manifests {
		platforms = append(platforms, p.Platform.String())
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("got platforms %v", platforms)
	}
}

// docker load accepts the same archive, with the first platform.
func TestArchiveIsADockerArchive(t *testing.T) {
	m := made(t, amd64, arm64)
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, archive(t, m), 0o600); err != nil {
		t.Fatal(err)
	}
	tag, _ := name.NewTag("dev.local/ebb/function:1")
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := img.ConfigName()
	if want, _ := m.Images[0].ConfigName(); got != want {
		t.Errorf("got config %s: want %s", got, want)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

func TestArchiveIsTheSameTwice(t *testing.T) {
	if !bytes.Equal(archive(t, made(t, amd64, arm64)), archive(t, made(t, amd64, arm64))) {
		t.Error("two archives of the same differ")
	}
}

// A binary is static, for its platform, contains no path of the machine, and does not depend on the environment.
func TestBuild(t *testing.T) {
	dir := shop.Module(t)
	b, err := pack.Build(t.Context(), dir, "./cmd/function", arm64)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_AARCH64 {
		t.Errorf("got machine %s", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Error("it is not static")
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Error("it has symbols for a debugger")
	}
	folders, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(strings.Fields(string(folders)), dir) {
		if bytes.Contains(b.Bytes, []byte(path)) {
			t.Errorf("the binary contains a path of this machine: %s", path)
		}
	}
	if b.Name != "function" || b.Info.Path != "example.com/shop/cmd/function" {
		t.Errorf("got %s, %s", b.Name, b.Info.Path)
	}
	const dependency = "github.com/google/licensecheck"
	for m, license := range b.Licenses {
		if strings.HasPrefix(m, dependency+"@") && license != "BSD-3-Clause" {
			t.Errorf("%s has the license %q", m, license)
		}
	}
	if !slices.ContainsFunc(b.Info.Deps, func(m *debug.Module) bool { return m.Path == dependency }) {
		t.Errorf("the build information lacks %s", dependency)
	}

	t.Setenv("GOFLAGS", "-tags=other -buildvcs=true")
	t.Setenv("CGO_ENABLED", "1")
	t.Setenv("GOARM64", "v9.0")
	again, err := pack.Build(t.Context(), dir, "./cmd/function", arm64)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes, again.Bytes) {
		t.Error("another environment makes other bytes")
	}
}

// A wrong package or platform is an error of one sentence.
func TestWrongPackages(t *testing.T) {
	dir := shop.Module(t)
	shop.Write(t, filepath.Join(dir, "broken", "main.go"), "package main\n\nfunc main() { nothing() }\n")
	for pkg, want := range map[string]string{
		"./cmd/functoin": "unknown package ./cmd/functoin",
		"./library":      "./library is a library (package library): want a command",
		"./...":          "./... matches 3 packages: want one command",
		"./broken":       "./broken does not build for linux/amd64: ",
	} {
		_, err := pack.Build(t.Context(), dir, pkg, amd64)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", pkg, err, want)
		}
	}
	for _, list := range []string{"", "linux/riscv64", "windows/amd64", "linux/amd64,linux/amd64"} {
		if _, err := pack.ParsePlatforms(list); err == nil {
			t.Errorf("platforms %q were accepted", list)
		}
	}
}

// The facts describe the commit, and mark changed files.
func TestFacts(t *testing.T) {
	dir := shop.Module(t)
	read := func(epoch string) pack.Facts {
		f, err := pack.ReadFacts(t.Context(), dir, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := read("")
	if f.Source != "https://example.com/shop" || f.License != "Apache-2.0" || len(f.Revision) != 40 ||
		f.Time.Format(time.RFC3339) != shop.Committed {
		t.Errorf("got %+v", f)
	}
	if want := "v0.0.0-20261124100000-" + f.Revision[:12]; f.Version != want {
		t.Errorf("version without a tag: got %s, want %s", f.Version, want)
	}
	if at := read("86400").Time; !at.Equal(time.Unix(86400, 0)) {
		t.Errorf("time with SOURCE_DATE_EPOCH: got %s", at)
	}
	if _, err := pack.ReadFacts(t.Context(), dir, "now"); err == nil {
		t.Error("SOURCE_DATE_EPOCH=now was taken")
	}
	shop.Git(t, dir, "tag", "v1.2.3")
	shop.Git(t, dir, "tag", "-a", "-m", "a module in a folder", "cmd/image/v1.2.3") // git prefers tags with a message
	if v := read("").Version; v != "v1.2.3" {
		t.Errorf("version with a tag: got %s", v)
	}
	shop.Write(t, filepath.Join(dir, "new.go"), "package shop\n")
	if f := read(""); !strings.HasSuffix(f.Revision, "-dirty") || f.Version != "v1.2.3-dirty" {
		t.Errorf("with a changed file: got %s, %s", f.Version, f.Revision)
	}
}

// Without git, as in an engine's build context, the facts have no commit, and the time is 1970.
func TestFactsWithoutGit(t *testing.T) {
	dir := t.TempDir()
	shop.Write(t, filepath.Join(dir, "go.mod"), "module example.com/shop\n")
	f, err := pack.ReadFacts(context.Background(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := (pack.Facts{Name: "shop", Source: "https://example.com/shop", Version: "v0.0.0",
		Time: time.Unix(0, 0).UTC()}); f != want {
		t.Errorf("got %+v", f)
	}
	if _, err := pack.ReadFacts(context.Background(), t.TempDir(), ""); err == nil {
		t.Error("a folder without a module was taken")
	}
}

func ExampleParseName() {
	tag, err := pack.ParseName("registry.example.com/shop/function", "v1.2.3")
	fmt.Println(pack.FullName(tag), err)
	_, err = pack.ParseName("shop/function:1", "v1.2.3")
	fmt.Println(err)
	// Output:
	// registry.example.com/shop/function:v1.2.3 <nil>
	// image "shop/function:1" has no registry: want a name such as registry.example.com/shop/function:1
}

// The name of a module is the last part of its path that is not a version.
func TestModuleName(t *testing.T) {
	for path, want := range map[string]string{
		"github.com/ebb-dev/ebb": "ebb", "example.com/Helpdesk/v2": "helpdesk", "helpdesk": "helpdesk", "v2": "v2",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+path+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		facts, err := pack.ReadFacts(t.Context(), dir, "")
		if err != nil || facts.Name != want {
			t.Errorf("%s: got %q, %v; want %q", path, facts.Name, err, want)
		}
	}
}
