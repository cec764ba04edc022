// Package greetertest is a gRPC server for the tests of gateways, of the service greet.v1.GreetService. It greets by
// name. Some names make it fail: nobody (NOT_FOUND), busy (RESOURCE_EXHAUSTED, to be tried again in two seconds),
// broken (INTERNAL) and slow, which has no answer until the call is cancelled.
package greetertest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// greet is the file of the service of the gRPC server.
const greet = `
file {
  name: "greet.proto" package: "greet.v1" syntax: "proto3" dependency: "google/api/annotations.proto"
  message_type {
    name: "HelloRequest"
    field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "name" }
    field { name: "times" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "times" }
  }
  message_type {
    name: "Hello"
    field { name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "text" }
    field { name: "said_times" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "saidTimes" }
  }
  service {
    name: "GreetService"
    method {
      name: "SayHello" input_type: ".greet.v1.HelloRequest" output_type: ".greet.v1.Hello"
      options {
        idempotency_level: NO_SIDE_EFFECTS
        [google.api.http] {
          get: "/v1/hello/{name}" additional_bindings { post: "/v1/hello" body: "*" }
        }
      }
    }
    method {
      name: "Repeat" input_type: ".greet.v1.HelloRequest" output_type: ".greet.v1.Hello" server_streaming: true
      client_streaming: true
    }
  }
}`

// The methods of the service. Repeat answers each message of its stream.
const SayHello, Repeat = "/greet.v1.GreetService/SayHello", "/greet.v1.GreetService/Repeat"

// Server is a gRPC server. It is safe for concurrent use.
type Server struct {
	Address string // HOST:PORT
	Schema  []byte // a FileDescriptorSet

	service protoreflect.ServiceDescriptor
	server  *grpc.Server

	mu    sync.Mutex
	seen  metadata.MD
	calls int
}

// Start starts a server on the loopback interface. Close ends it.
func Start() (*Server, error) {
	var set descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(greet), &set); err != nil {
		return nil, err
	}
	file, err := protodesc.NewFile(set.File[0], protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	s := &Server{service: file.Services().Get(0), server: grpc.NewServer()}
	if s.Schema, err = proto.Marshal(&set); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: string(s.service.FullName()), HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "SayHello", Handler: s.sayHello}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Repeat", ServerStreams: true, ClientStreams: true, Handler: s.repeat},
		},
	}, nil)
	go func() { _ = s.server.Serve(l) }()
	s.Address = l.Addr().String()
	return s, nil
}

// Close ends the server and its connections.
func (s *Server) Close() { s.server.Stop() }

// Method returns the description of SayHello.
func (s *Server) Method() protoreflect.MethodDescriptor { return s.service.Methods().Get(0) }

// Request returns a request for a greeting.
func (s *Server) Request(name string) *dynamicpb.Message {
	in := dynamicpb.NewMessage(s.Method().Input())
	in.Set(field(in, "name"), protoreflect.ValueOfString(name))
	return in
}

// Answer returns an empty answer.
func (s *Server) Answer() *dynamicpb.Message { return dynamicpb.NewMessage(s.Method().Output()) }

// Text returns the text of an answer.
func Text(answer *dynamicpb.Message) string { return answer.Get(field(answer, "text")).String() }

// Seen returns the metadata of the last call, and how many there were.
func (s *Server) Seen() (metadata.MD, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, s.calls
}

func field(m *dynamicpb.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func (s *Server) sayHello(
	_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
) (any, error) {
	in := s.Request("")
	if err := decode(in); err != nil {
		return nil, err
	}
	return s.greet(ctx, in)
}

func (s *Server) repeat(_ any, stream grpc.ServerStream) error {
	for {
		in := s.Request("")
		if err := stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		answer, err := s.greet(stream.Context(), in)
		if err == nil {
			err = stream.SendMsg(answer)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) greet(ctx context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
	s.mu.Lock()
	s.seen, _ = metadata.FromIncomingContext(ctx)
	s.calls++
	s.mu.Unlock()
	name := in.Get(field(in, "name")).String()
	switch name {
	case "nobody":
		return nil, status.Error(codes.NotFound, "there is no such person: ä")
	case "busy":
		busy, err := status.New(codes.ResourceExhausted, "too many").
			WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(2e9)})
		if err != nil {
			return nil, err
		}
		return nil, busy.Err()
	case "broken":
		return nil, status.Error(codes.Internal, "secret")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	out := s.Answer()
	out.Set(field(out, "text"), protoreflect.ValueOfString("hello "+name))
	out.Set(field(out, "said_times"), in.Get(field(in, "times")))
	return out, nil
}
