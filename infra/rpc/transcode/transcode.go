package transcode

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Handler serves calls of services by HTTP operations. It is safe for concurrent use.
type Handler struct {
	files      files
	services   []protoreflect.ServiceDescriptor
	transcoder *vanguard.Transcoder
}

var _ http.Handler = (*Handler)(nil)

// New returns the handler of the services, whose operations are served by another handler.
func New(services []manifest.Service, operations http.Handler) (*Handler, error) {
	h, in := &Handler{files: files{&protoregistry.Files{}}}, inputs{}
	var served []*vanguard.Service
	for _, s := range services {
		d, err := h.files.add(s)
		if err != nil {
			return nil, err
		}
		h.services = append(h.services, d)
		for i := range d.Methods().Len() {
			in[d.Methods().Get(i).Input().FullName()] = true
		}
		served = append(served, vanguard.NewServiceWithSchema(d, adapter{operations},
			vanguard.WithTargetProtocols(vanguard.ProtocolREST), vanguard.WithTargetCodecs(vanguard.CodecJSON),
			vanguard.WithNoTargetCompression(), vanguard.WithMaxMessageBufferBytes(maxMessage)))
	}
	var err error
	h.transcoder, err = vanguard.NewTranscoder(served,
		vanguard.WithCodec(func(types vanguard.TypeResolver) vanguard.Codec {
			return plainJSON{vanguard.NewJSONCodec(types), in}
		}),
		vanguard.WithCodec(func(types vanguard.TypeResolver) vanguard.Codec {
			return binary{vanguard.NewProtoCodec(types), in}
		}),
		vanguard.WithCompression(vanguard.CompressionGzip, newZip, newUnzip),
		vanguard.WithUnknownHandler(http.HandlerFunc(unimplemented)))
	if err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	return h, nil
}

// Names returns the full names of the services.
func (h *Handler) Names() []string {
	names := make([]string, len(h.services))
	for i, d := range h.services {
		names[i] = string(d.FullName())
	}
	return names
}

// Files returns the files of the services, and those that the program has.
func (h *Handler) Files() interface {
	FindFileByPath(path string) (protoreflect.FileDescriptor, error)
	FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error)
} {
	return h.files
}

// conditional are the header fields by which a response could be less than the resource. A message is always whole.
var conditional = []string{
	"If-None-Match", "If-Modified-Since", "If-Range", "Range", timeoutField, "Expect", "Upgrade",
}

// ServeHTTP implements http.Handler. It changes the header of the request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, name := range conditional {
		delete(r.Header, name)
	}
	plainConnect(r.Header)
	if !whole(r) {
		problem.Write(w, r, fault.New(fault.Invalid, "the body could not be read").WithStatus(http.StatusBadRequest))
		return
	}
	h.transcoder.ServeHTTP(answering(w, r), r)
}

// answering returns the writer of the answer to a call, as its protocol has it.
func answering(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if isWeb(r.Header) {
		return &webTrailers{ResponseWriter: w}
	}
	return &trailing{w}
}

// plainConnect completes the header of a call by Connect as the transcoder expects it.
func plainConnect(h http.Header) {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil && (media == "application/json" || media == "application/proto") {
		h.Set("Content-Type", media)
		h.Set("Connect-Protocol-Version", "1") // which a client need not say
	}
}

// whole reads the body of a call, so that memory grows with what has come: the transcoder would take as much as the
// first five bytes of a message promise. A body that is too large is left cut off, and the transcoder refuses it.
func whole(r *http.Request) bool {
	const prefix = 5 // of a message
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMessage+prefix+1))
	if err != nil {
		return false
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return true
}

// trailing sends the end of a gRPC call in trailers only. The transcoder sets the end of a call that fails as header
// fields and declares two of the three as trailers, so that clients would not find the details.
type trailing struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *trailing) WriteHeader(status int) {
	h, end := w.Header(), map[string][]string{}
	if len(h["Trailer"]) > 0 && len(h["Grpc-Status"]) > 0 {
		for _, name := range []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"} {
			if values, ok := h[name]; ok {
				end[name] = values
				delete(h, name)
			}
		}
		h.Add("Trailer", "Grpc-Status-Details-Bin")
	}
	w.ResponseWriter.WriteHeader(status)
	maps.Copy(h, end)
}

// Flush implements http.Flusher.
func (w *trailing) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *trailing) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unimplemented answers a call of a method that the service does not have, in the protocol of the call.
func unimplemented(w http.ResponseWriter, r *http.Request) {
	const message = "the service has no such method"
	h := w.Header()
	switch contentType := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(contentType, "application/grpc"):
		h.Set("Content-Type", contentType)
		h.Set("Grpc-Status", "12")
		h.Set("Grpc-Message", message)
		w.WriteHeader(http.StatusOK)
	default:
		h.Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotImplemented)
		_, _ = w.Write([]byte(`{"code":"unimplemented","message":"` + message + `"}`))
	}
}
