package transcode

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	// The files that schemas leave out, and the details of failures.
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// files resolves names in the files of schemas, and then in those that the program has.
type files struct{ own *protoregistry.Files }

var _ protodesc.Resolver = files{}

// FindFileByPath implements protodesc.Resolver.
func (f files) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if d, err := f.own.FindFileByPath(path); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (f files) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := f.own.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// add adds the files of a service's schema, and returns the service.
func (f files) add(s manifest.Service) (protoreflect.ServiceDescriptor, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(s.Schema, &set); err != nil {
		return nil, fmt.Errorf("invalid schema of %s: %w", s.Name, err)
	}
	for _, file := range set.File {
		if _, err := f.own.FindFileByPath(file.GetName()); err == nil {
			continue
		}
		d, err := protodesc.NewFile(file, f)
		if err == nil {
			err = f.own.RegisterFile(d)
		}
		if err != nil {
			return nil, fmt.Errorf("invalid schema of %s: %w", s.Name, err)
		}
	}
	d, err := f.own.FindDescriptorByName(protoreflect.FullName(s.Name))
	service, ok := d.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		return nil, fmt.Errorf("invalid schema of %s: the service is not in it", s.Name)
	}
	return service, nil
}
