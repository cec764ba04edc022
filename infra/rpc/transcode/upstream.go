package transcode

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/jsonlimit"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Binding is a request by which a method of a service can be called.
type Binding struct {
	Method, Path string // of the request: "GET", "/v1/notes/{id}"
	RPC          string // the method of the service: "/notes.v1.NoteService/GetNote"
	Call         bool   // the request is a call by gRPC, gRPC-Web or Connect, and Path is RPC
	Streams      bool   // the method has more than one request or response
}

// Upstream is an http.Handler that has the service of a gRPC server called by the requests of its bindings: plain JSON
// as the google.api.http options of the methods say, gRPC-Web, Connect, and gRPC, which is passed on as it is. JSON is
// that of Protobuf (ProtoJSON). It may be used concurrently.
type Upstream struct {
	service    protoreflect.ServiceDescriptor
	files      files
	bindings   []Binding
	calls      map[string]bool // the paths of calls
	transcoder *vanguard.Transcoder
}

var _ http.Handler = (*Upstream)(nil)

// NewUpstream returns the handler of a service, whose calls by gRPC are served by another handler. The error says what
// of the schema is not valid, or which path cannot be routed: those with a wildcard of several segments, and those with
// a verb after a parameter, cannot.
func NewUpstream(s manifest.Service, server http.Handler) (*Upstream, error) {
	all := files{&protoregistry.Files{}}
	d, err := all.add(s)
	if err != nil {
		return nil, err
	}
	u, in := &Upstream{service: d, files: all, calls: map[string]bool{}}, inputs{}
	for i := range d.Methods().Len() {
		m := d.Methods().Get(i)
		in[m.Input().FullName()] = true
		found, err := bindings(m)
		if err != nil {
			return nil, fmt.Errorf("method %s: %w", m.FullName(), err)
		}
		u.bindings = append(u.bindings, found...)
		u.calls[found[0].RPC] = true
	}
	service := vanguard.NewServiceWithSchema(d, server, vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
		vanguard.WithTargetCodecs(vanguard.CodecProto), vanguard.WithMaxMessageBufferBytes(maxMessage),
		vanguard.WithRESTUnmarshalOptions(vanguard.RESTUnmarshalOptions{DiscardUnknownQueryParams: true}))
	u.transcoder, err = vanguard.NewTranscoder([]*vanguard.Service{service},
		vanguard.WithCodec(func(types vanguard.TypeResolver) vanguard.Codec {
			return protoJSON{vanguard.NewJSONCodec(types), in}
		}),
		vanguard.WithCodec(func(types vanguard.TypeResolver) vanguard.Codec {
			return binary{vanguard.NewProtoCodec(types), in}
		}),
		vanguard.WithCompression(vanguard.CompressionGzip, newZip, newUnzip),
		vanguard.WithUnknownHandler(http.HandlerFunc(u.unknown)))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Name, err)
	}
	return u, nil
}

// Bindings returns the requests that the handler takes. A method without google.api.http option has only its calls.
func (u *Upstream) Bindings() []Binding { return u.bindings }

// Files returns the files of the schema, and those that the program has.
func (u *Upstream) Files() protodesc.Resolver { return u.files }

// ServeHTTP implements http.Handler. It changes the header of the request.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u.calls[r.URL.Path] {
		plainConnect(r.Header)
		if name := compression(r.Header); name != "" {
			err := connect.NewError(connect.CodeUnimplemented, fmt.Errorf("unknown compression %q (use gzip)", name))
			_ = errorWriter.Write(w, r, err) // a caller that has gone needs no answer
			return
		}
	} else {
		delete(r.Header, timeoutField) // which the transcoder would have be the time of the call
		if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == "application/json" {
			r.Header.Set("Content-Type", media) // the transcoder takes few parameters
		}
	}
	gather(r)
	u.transcoder.ServeHTTP(answering(w, r), r)
}

var errorWriter = connect.NewErrorWriter()

// compression returns the name of a compression of a call's messages that is not known; "" if it is.
func compression(h http.Header) string {
	field := "Connect-Content-Encoding"
	switch t := h.Get("Content-Type"); {
	case strings.HasPrefix(t, "application/grpc"):
		field = "Grpc-Encoding"
	case !strings.HasPrefix(t, "application/connect+"):
		field = "Content-Encoding"
	}
	if name := h.Get(field); name != "identity" && name != vanguard.CompressionGzip {
		return name
	}
	return ""
}

// unknown answers what the transcoder does not know: a call of a method with another content type.
func (u *Upstream) unknown(w http.ResponseWriter, r *http.Request) {
	if u.calls[r.URL.Path] {
		w.Header().Set("Accept-Post", "application/grpc, application/grpc-web, application/json, application/proto, "+
			"application/connect+json, application/connect+proto")
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	unimplemented(w, r)
}

// bindings returns the requests by which a method can be called.
func bindings(m protoreflect.MethodDescriptor) ([]Binding, error) {
	b := Binding{
		Method: http.MethodPost, RPC: "/" + string(m.Parent().FullName()) + "/" + string(m.Name()), Call: true,
		Streams: m.IsStreamingClient() || m.IsStreamingServer(),
	}
	b.Path = b.RPC
	all := []Binding{b}
	if o, ok := m.Options().(*descriptorpb.MethodOptions); ok && !b.Streams &&
		o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
		b.Method = http.MethodGet // of Connect
		all = append(all, b)
	}
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return all, nil
	}
	if b.Streams {
		return all, nil // JSON has one request and one response
	}
	for _, r := range append([]*annotations.HttpRule{rule}, rule.AdditionalBindings...) {
		method, path := target(r)
		if err := routable(method, path); err != nil {
			return nil, err
		}
		all = append(all, Binding{Method: method, Path: path, RPC: b.RPC})
	}
	return all, nil
}

// routable returns an error for what is no method, and for a path that has other parameters than whole segments.
func routable(method, path string) error {
	if method == "" || strings.ToUpper(method) != method || !strings.HasPrefix(path, "/") {
		return fmt.Errorf("invalid google.api.http option %s %s: want a method and a path", method, path)
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		inner, parameter := strings.CutPrefix(segment, "{")
		inner, closed := strings.CutSuffix(inner, "}")
		if parameter != closed || strings.ContainsAny(inner, "{}*=") || inner == "" {
			return fmt.Errorf("cannot route %s %s: want segments that are text or a whole {field}", method, path)
		}
	}
	return nil
}

// protoJSON is Protobuf's own form in JSON, with the limits.
type protoJSON struct {
	*vanguard.JSONCodec
	inputs inputs
}

// Unmarshal implements vanguard.Codec.
func (c protoJSON) Unmarshal(data []byte, m proto.Message) error {
	if c.inputs[m.ProtoReflect().Descriptor().FullName()] {
		if err := checkJSON(data); err != nil {
			return err
		}
	}
	if err := c.JSONCodec.Unmarshal(data, m); err != nil {
		return invalid(fmt.Errorf("the message cannot be decoded: %w", err))
	}
	return nil
}

// checkJSON returns an error for a message that would take too much memory.
func checkJSON(data []byte) error {
	if err := jsonlimit.Check(data, maxValues, nil); err != nil {
		return invalid(fmt.Errorf("%s", fault.Public(err)))
	}
	return nil
}
