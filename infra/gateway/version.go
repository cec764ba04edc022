package gateway

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// versions says where requests name the version of an operation that they ask for. A request that names none asks for
// the current one, which the function that declares the operation serves.
type versions struct {
	Current   string `json:"current"`
	Header    string `json:"header"`     // the name of a header field
	MediaType string `json:"media_type"` // the name of a parameter of Accept or Content-Type
	Path      bool   `json:"path"`       // as the first segment: /v2/api/products
}

// named reports whether requests can name a version.
func (v versions) named() bool { return v.Header != "" || v.MediaType != "" || v.Path }

func (v versions) check(declared map[string]manifest.Route, doc *strictyaml.Document) {
	switch {
	case v == versions{}:
		return
	case !v.named():
		doc.Report("versions", "want at least one of header, media_type and path")
	case !isID(v.Current):
		doc.Report("versions.current", "want letters, digits, hyphens, underscores and dots")
	}
	for _, f := range [][2]string{{"header", v.Header}, {"media_type", v.MediaType}} {
		if f[1] != "" && !isID(f[1]) {
			doc.Report("versions."+f[0], "want letters, digits, hyphens, underscores and dots")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(declared)) {
		if _, ok := versionOf(firstSegment(declared[key].Path)); ok && v.Path {
			doc.Report("versions.path", fmt.Sprintf("the path of %s begins with a version already", key))
		}
	}
}

// firstSegment returns the first segment of a path.
func firstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

// versionOf returns the version that a segment such as v2 names.
func versionOf(segment string) (string, bool) {
	version, ok := strings.CutPrefix(segment, "v")
	return version, ok && isID(version) && version[0] >= '0' && version[0] <= '9'
}

// readVersion finds the version that a request asks for, and takes it out of the path, so that the routes and the
// functions see the path that the operation declares. A request that names two is 400.
func readVersion(next Handler) Handler {
	return func(x *Exchange) {
		v := x.table.versions
		x.version = v.Current
		if !v.named() {
			next(x)
			return
		}
		var all []string
		if v.Path {
			all = append(all, x.cutVersion()...)
		}
		if v.Header != "" {
			for _, line := range x.Request.Header.Values(v.Header) { // two lines may have been joined
				for version := range strings.SplitSeq(line, ",") {
					all = append(all, strings.TrimSpace(version))
				}
			}
		}
		if v.MediaType != "" {
			all = append(all, mediaVersion(x.Request.Header, v.MediaType)...)
		}
		for i, version := range all {
			if version != all[0] {
				x.Refuse(fault.New(fault.Invalid, "the request names two versions, %q and %q", all[0], all[i]).
					WithStatus(http.StatusBadRequest))
				return
			}
			x.version = version
		}
		next(x)
	}
}

// cutVersion takes a first segment such as v2 out of the path and returns its version.
func (x *Exchange) cutVersion() []string {
	u := x.Request.URL
	segment := firstSegment(u.EscapedPath()) // an encoded one names no version
	version, ok := versionOf(segment)
	path, more := strings.CutPrefix(u.Path, "/"+segment+"/")
	if !ok || !more {
		return nil
	}
	r, raw := x.Own(), u.RawPath
	if raw != "" {
		raw = strings.TrimPrefix(raw, "/"+segment)
	}
	r.URL = &url.URL{Path: "/" + path, RawPath: raw, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}
	r.RequestURI = r.URL.RequestURI()
	return []string{version}
}

// mediaVersion returns the values of a parameter in Accept, or in Content-Type if Accept has none.
func mediaVersion(h http.Header, parameter string) (all []string) {
	for _, field := range []string{"Accept", "Content-Type"} {
		for _, value := range h[field] {
			if !strings.Contains(value, ";") {
				continue
			}
			for part := range strings.SplitSeq(value, ",") {
				if _, parameters, err := mime.ParseMediaType(part); err == nil && parameters[parameter] != "" {
					all = append(all, parameters[parameter])
				}
			}
		}
		if len(all) > 0 {
			break
		}
	}
	return all
}
