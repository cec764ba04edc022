package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// SBOMType is the media type of a bill of materials.
const SBOMType = "application/spdx+json"

// The parts of SPDX 2.3 in use.
type (
	spdxDocument struct {
		Version           string             `json:"spdxVersion"`
		License           string             `json:"dataLicense"`
		ID                string             `json:"SPDXID"`
		Name              string             `json:"name"`
		Namespace         string             `json:"documentNamespace"`
		Created           spdxCreation       `json:"creationInfo"`
		Packages          []spdxPackage      `json:"packages"`
		Relationships     []spdxRelationship `json:"relationships"`
		DocumentDescribes []string           `json:"documentDescribes"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID               string         `json:"SPDXID"`
		Name             string         `json:"name"`
		Version          string         `json:"versionInfo,omitempty"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		Download         string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		Copyright        string         `json:"copyrightText"`
		Refs             []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const noAssertion = "NOASSERTION"

// SBOM returns the bill of materials of one image in SPDX JSON: the modules of the command's build information, Go's
// standard library, and the certificates.
func SBOM(img v1.Image, b Binary, f Facts) ([]byte, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	d := spdxDocument{
		Version:   "SPDX-2.3",
		License:   "CC0-1.0",
		ID:        "SPDXRef-DOCUMENT",
		Name:      b.Name + " " + f.Version + " " + b.Platform.String(),
		Namespace: f.Source + "/spdx/" + digest.String(),
		Created: spdxCreation{f.Time.Format(time.RFC3339), []string{"Tool: " + strings.TrimPrefix(f.Source, "https://") +
			"/cmd/image"}},
	}
	add := func(p spdxPackage, from, how string) string {
		p.ID = spdxID(p.Name + " " + p.Version)
		p.Download, p.LicenseConcluded, p.Copyright = noAssertion, noAssertion, noAssertion
		if p.LicenseDeclared == "" {
			p.LicenseDeclared = noAssertion
		}
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, spdxRelationship{from, how, p.ID})
		return p.ID
	}

	image := add(spdxPackage{
		Name:      "image of " + b.Name,
		Version:   digest.String(),
		Purpose:   "CONTAINER",
		Checksums: []spdxChecksum{{"SHA256", digest.Hex}},
		Refs:      purl("oci/" + b.Name + "@" + strings.Replace(digest.String(), ":", "%3A", 1) + "?arch=" + b.Platform.Arch),
	}, d.ID, "DESCRIBES")
	d.DocumentDescribes = []string{image}
	sum := sha256.Sum256(b.Bytes)
	main := add(spdxPackage{
		Name:            b.Info.Path,
		Version:         f.Version,
		Purpose:         "APPLICATION",
		SourceInfo:      strings.TrimSpace("commit " + f.Revision),
		Checksums:       []spdxChecksum{{"SHA256", hex.EncodeToString(sum[:])}},
		LicenseDeclared: f.License,
		Refs:            purl("golang/" + b.Info.Main.Path + "@" + f.Version + subpath(b.Info)),
	}, image, "CONTAINS")
	goVersion := strings.TrimPrefix(b.Info.GoVersion, "go")
	add(spdxPackage{
		Name: "stdlib", Version: goVersion, Purpose: "LIBRARY", LicenseDeclared: "BSD-3-Clause",
		Refs: purl("golang/stdlib@" + goVersion),
	}, main, "DEPENDS_ON")
	for _, m := range b.Info.Deps {
		add(module(m, b.Licenses[m.Path+"@"+m.Version]), main, "DEPENDS_ON")
	}
	add(module(&debug.Module{Path: RootsModule, Version: RootsVersion()}, "BSD-3-Clause"), image, "CONTAINS")
	return json.MarshalIndent(d, "", "  ")
}

func module(m *debug.Module, license string) spdxPackage {
	if m.Replace != nil {
		m = m.Replace
	}
	p := spdxPackage{Name: m.Path, Version: m.Version, Purpose: "LIBRARY", LicenseDeclared: license}
	if m.Sum != "" {
		p.SourceInfo = "go.sum " + m.Sum
	}
	if m.Version != "" {
		p.Refs = purl("golang/" + m.Path + "@" + m.Version)
	}
	return p
}

func purl(locator string) []spdxRef {
	return []spdxRef{{"PACKAGE-MANAGER", "purl", "pkg:" + locator}}
}

// subpath returns the command's folder within its module in the form of package URLs.
func subpath(info *debug.BuildInfo) string {
	if sub := strings.TrimPrefix(strings.TrimPrefix(info.Path, info.Main.Path), "/"); sub != "" {
		return "#" + sub
	}
	return ""
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func spdxID(s string) string { return "SPDXRef-" + notInID.ReplaceAllString(s, "-") }

// Modules returns the number of modules in a bill of materials, and how many of them have a known license.
func Modules(b Binary) (all, licensed int) {
	for _, license := range slices.Collect(maps.Values(b.Licenses)) {
		if all++; license != "" {
			licensed++
		}
	}
	return all, licensed
}
