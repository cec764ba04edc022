// Command grpcconformance is the server that the runner of connectrpc.com/conformance tests: a gateway in front of the
// runner's own reference server, which the gateway reaches by gRPC without TLS.
//
//	grpcconformance -protos DIR -reference PROGRAM
//
// DIR has the .proto files of the suite, PROGRAM is its referenceserver. The runner says on standard input which
// server it wants, and is told the address on standard output. It is a module of its own: no program of the kit depends
// on the suite.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/manifest"
)

func main() {
	protos := flag.String("protos", "", "the `folder` with the .proto files of the suite")
	reference := flag.String("reference", "", "the reference server, a `program` of the suite")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *protos, *reference); err != nil {
		fmt.Fprintln(os.Stderr, "grpcconformance:", err)
		os.Exit(1)
	}
}

const (
	service = "connectrpc.conformance.v1.ConformanceService"
	grpc    = 2 // PROTOCOL_GRPC
	http2   = 2 // HTTP_VERSION_2
)

func run(ctx context.Context, protos, reference string) error {
	s, err := compile(ctx, protos)
	if err != nil {
		return err
	}
	wanted := s.message("ServerCompatRequest")
	if err := receive(os.Stdin, wanted); err != nil {
		return err
	}
	// The reference server checks what it gets as it would check a client, with the limit that the runner wants.
	behind := s.message("ServerCompatRequest")
	set(behind, "protocol", protoreflect.ValueOfEnum(grpc))
	set(behind, "http_version", protoreflect.ValueOfEnum(http2))
	set(behind, "message_receive_limit", wanted.Get(field(wanted, "message_receive_limit")))
	cmd := exec.CommandContext(ctx, reference)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	at := s.message("ServerCompatResponse")
	if err := errors.Join(send(in, behind), receive(out, at)); err != nil {
		return fmt.Errorf("the reference server: %w", err)
	}
	server, err := s.gateway(fmt.Sprintf("127.0.0.1:%d", at.Get(field(at, "port")).Uint()))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Close()
	go func() { _ = server.Serve(httpserver.Listener(l)) }()
	answer := s.message("ServerCompatResponse")
	set(answer, "host", protoreflect.ValueOfString("127.0.0.1"))
	set(answer, "port", protoreflect.ValueOfUint32(uint32(l.Addr().(*net.TCPAddr).Port)))
	if err := send(os.Stdout, answer); err != nil {
		return err
	}
	<-ctx.Done() // the runner is done
	return nil
}

// schema is the messages of the suite, and the FileDescriptorSet of its service.
type schema struct {
	messages protoreflect.FileDescriptor
	set      []byte
}

// compile compiles the .proto files.
func compile(ctx context.Context, protos string) (schema, error) {
	const dir = "connectrpc/conformance/v1/"
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(
		&protocompile.SourceResolver{ImportPaths: []string{protos}})}
	files, err := compiler.Compile(ctx, dir+"config.proto", dir+"service.proto", dir+"server_compat.proto")
	if err != nil {
		return schema{}, err
	}
	var set descriptorpb.FileDescriptorSet
	for _, f := range files[:2] {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	data, err := proto.Marshal(&set)
	return schema{files[2], data}, err
}

func (s schema) message(name protoreflect.Name) *dynamicpb.Message {
	return dynamicpb.NewMessage(s.messages.Messages().ByName(name))
}

func field(m *dynamicpb.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func set(m *dynamicpb.Message, name protoreflect.Name, v protoreflect.Value) {
	m.Set(field(m, name), v)
}

// receive reads a message behind its length.
func receive(from io.Reader, m proto.Message) error {
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return err
	}
	data := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(from, data); err != nil {
		return err
	}
	return proto.Unmarshal(data, m)
}

// send writes a message behind its length.
func send(to io.Writer, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)))
	return err
}

// gateway returns the server of a gateway of the service, whose server is at an address.
func (s schema) gateway(address string) (*http.Server, error) {
	dir, err := os.MkdirTemp("", "grpcconformance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "schema.binpb"), s.set, 0o600); err != nil {
		return nil, err
	}
	g, err := gateway.New(gateway.Config{
		System: manifest.System{}, Discovery: static.Discovery{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	err = g.Configure(filepath.Join(dir, "policy.yaml"), fmt.Appendf(nil, `
upstreams: {reference: ["http://%s"]}
services: {%s: {upstream: reference, schema: schema.binpb, access: public}}
`, address, service))
	if err != nil {
		return nil, err
	}
	server := httpserver.New(g)
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server, nil
}
