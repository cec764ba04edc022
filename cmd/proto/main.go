// Command proto writes what is derived from the .proto files of the functions: Go code of messages and Connect clients
// beside each file, and the descriptors that a function embeds.
//
//	go run -C cmd/proto .            writes the derived files
//	go run -C cmd/proto . -check     reports those that are stale, and writes nothing
//	go run -C cmd/proto . -image F   writes all files with their imports to F, as buf reads them
//	                                 (with -base REV: those of a revision)
//
// It is a module of its own, so that no program of the kit depends on compilers.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	check := flag.Bool("check", false, "report stale files and write nothing")
	image := flag.String("image", "", "write all files with their imports to this `file` instead")
	base := flag.String("base", "", "read the .proto files of this `revision`, for -image")
	flag.Parse()
	if err := run(context.Background(), *check, *image, *base); err != nil {
		fmt.Fprintln(os.Stderr, "proto:", err)
		os.Exit(1)
	}
}

// root is the folder of the repository, from the folder of this command.
const root = "../.."

func run(ctx context.Context, check bool, image, base string) error {
	tree := source(working{})
	if base != "" {
		tree = revision(base)
	}
	files, err := compile(ctx, tree)
	if err != nil {
		return err
	}
	if image != "" {
		return writeImage(image, files)
	}
	derived, err := derive(files)
	if err != nil {
		return err
	}
	return write(derived, check)
}

// source is where .proto files are read from, by their paths in the repository.
type source interface {
	list() ([]string, error)
	open(path string) (io.ReadCloser, error)
}

// working is the working tree.
type working struct{}

func (working) list() (paths []string, err error) {
	err = fs.WalkDir(os.DirFS(root), "functions", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".proto") {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

func (working) open(path string) (io.ReadCloser, error) { return os.Open(filepath.Join(root, path)) }

// revision is a commit of the repository.
type revision string

func (r revision) list() (paths []string, err error) {
	out, err := git("ls-tree", "-r", "--name-only", string(r), "functions")
	for path := range strings.Lines(string(out)) {
		if path = strings.TrimSpace(path); strings.HasSuffix(path, ".proto") {
			paths = append(paths, path)
		}
	}
	return paths, err
}

func (r revision) open(path string) (io.ReadCloser, error) {
	// Without git's message: a file that a revision lacks may be one of protobuf's own.
	out, err := exec.Command("git", "-C", root, "show", string(r)+":"+path).Output()
	return io.NopCloser(bytes.NewReader(out)), err
}

func git(args ...string) ([]byte, error) {
	cmd := exec.Command("git", append([]string{"-C", root}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}

// compile returns the files of the functions, in the order of their paths.
func compile(ctx context.Context, from source) ([]protoreflect.FileDescriptor, error) {
	paths, err := from.list()
	if err != nil {
		return nil, err
	}
	c := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard,
		Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
			protocompile.ResolverFunc(linked),
			&protocompile.SourceResolver{Accessor: from.open},
		}),
	}
	compiled, err := c.Compile(ctx, paths...)
	if err != nil {
		return nil, err
	}
	files := make([]protoreflect.FileDescriptor, len(compiled))
	for i, f := range compiled {
		files[i] = f
	}
	return files, nil
}

// linked finds the files of google/api, which no folder has and genproto does.
func linked(path string) (protocompile.SearchResult, error) {
	for _, f := range []protoreflect.FileDescriptor{
		annotations.File_google_api_annotations_proto, annotations.File_google_api_http_proto,
	} {
		if f.Path() == path {
			return protocompile.SearchResult{Desc: f}, nil
		}
	}
	return protocompile.SearchResult{}, fs.ErrNotExist
}

// withImports returns the files and all that they import, each after its imports.
func withImports(files []protoreflect.FileDescriptor) (all []protoreflect.FileDescriptor) {
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		all = append(all, f)
	}
	for _, f := range files {
		add(f)
	}
	return all
}

func writeImage(path string, files []protoreflect.FileDescriptor) error {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range withImports(files) {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	data, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// derive returns the derived files by their paths in the repository.
func derive(files []protoreflect.FileDescriptor) (map[string][]byte, error) {
	derived := map[string][]byte{}
	for _, f := range files {
		data, err := embedded(f)
		if err != nil {
			return nil, err
		}
		derived[strings.TrimSuffix(f.Path(), ".proto")+".binpb"] = data
	}
	request := &pluginpb.CodeGeneratorRequest{Parameter: proto.String("paths=source_relative")}
	for _, f := range files {
		request.FileToGenerate = append(request.FileToGenerate, f.Path())
	}
	for _, f := range withImports(files) {
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(f))
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-connect-go"} {
		if err := generate(plugin, request, derived); err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return derived, nil
}

// embedded returns a file as a function embeds it: a FileDescriptorSet of the file and its imports, without those that
// every program with a gateway has, and without comments.
func embedded(f protoreflect.FileDescriptor) ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range withImports([]protoreflect.FileDescriptor{f}) {
		if strings.HasPrefix(f.Path(), "google/api/") || strings.HasPrefix(f.Path(), "google/protobuf/") {
			continue
		}
		d := protodesc.ToFileDescriptorProto(f)
		d.SourceCodeInfo = nil
		set.File = append(set.File, d)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(set)
}

// generate adds what a plugin of protoc makes of the files.
func generate(plugin string, request *pluginpb.CodeGeneratorRequest, derived map[string][]byte) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var answer pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.GetError())
	}
	for _, f := range answer.File {
		derived[f.GetName()] = []byte(f.GetContent())
	}
	return nil
}

// write writes the derived files or, for a check, reports those that differ.
func write(derived map[string][]byte, check bool) error {
	var stale []string
	for path, content := range derived {
		path = filepath.Join(root, path)
		if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, content) {
			continue
		}
		if check {
			stale = append(stale, strings.TrimPrefix(path, root+"/"))
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		slices.Sort(stale)
		return fmt.Errorf("stale, run make generate:\n  %s", strings.Join(stale, "\n  "))
	}
	return nil
}
