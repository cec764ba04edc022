package transcode

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// Check returns an error that names everything by which the services of a function do not fit its operations: a schema
// that is not valid, a method that streams or has no google.api.http option, an option that names no operation of the
// function or would send a request that the operation does not understand.
func Check(f manifest.Function) error {
	var errs []error
	all := files{&protoregistry.Files{}}
	for _, s := range f.Services {
		d, err := all.add(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i := range d.Methods().Len() {
			m := d.Methods().Get(i)
			if err := checkMethod(m, f); err != nil {
				errs = append(errs, fmt.Errorf("method %s: %w", m.FullName(), err))
			}
		}
	}
	return errors.Join(errs...)
}

func checkMethod(m protoreflect.MethodDescriptor, f manifest.Function) error {
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return errors.New("want a google.api.http option")
	}
	method, path := target(rule)
	served := func(r manifest.Route) bool { return r.Method == method && r.Path == path }
	switch {
	case m.IsStreamingClient() || m.IsStreamingServer():
		return errors.New("want one request and one response: operations do not stream")
	case len(rule.AdditionalBindings) > 0:
		return errors.New("want one operation, without additional_bindings")
	case !slices.ContainsFunc(f.Routes, served):
		return fmt.Errorf("%s has no operation %s %s", f.Name, method, path)
	case rule.Body == "*" && strings.Contains(path, "{"):
		return errors.New(`want a message field as the body: with "*" it would have the parameters of the path too`)
	}
	return checkFields(m.Input(), rule.Body, path)
}

// target returns the method and the path of the operation that an option names.
func target(rule *annotations.HttpRule) (method, path string) {
	switch p := rule.Pattern.(type) {
	case *annotations.HttpRule_Get:
		return "GET", p.Get
	case *annotations.HttpRule_Post:
		return "POST", p.Post
	case *annotations.HttpRule_Put:
		return "PUT", p.Put
	case *annotations.HttpRule_Patch:
		return "PATCH", p.Patch
	case *annotations.HttpRule_Delete:
		return "DELETE", p.Delete
	case *annotations.HttpRule_Custom:
		return p.Custom.GetKind(), p.Custom.GetPath()
	}
	return "", ""
}

// checkFields returns an error for a body that is no message and for a parameter of the query whose name would change:
// parameters have the JSON names of fields.
func checkFields(in protoreflect.MessageDescriptor, body, path string) error {
	if body == "*" {
		return nil
	}
	if f := in.Fields().ByName(protoreflect.Name(body)); body != "" && (f == nil || f.Message() == nil || f.IsList()) {
		return fmt.Errorf("want a message as the field %q, which is the body", body)
	}
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		name := string(f.Name())
		if name != body && !strings.Contains(path, "{"+name+"}") && f.JSONName() != name {
			return fmt.Errorf("want [json_name = %q] at the field %s, which is a parameter of the query", name, name)
		}
	}
	return nil
}
