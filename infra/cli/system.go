package cli

import (
	"net/http"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/system"
)

// This file is all that the command knows of how a system is declared and hosted.

// checkSettings returns what the functions find wrong with their settings.
func checkSettings(s system.System, lookup config.Lookup) error {
	_, err := s.Describe(lookup)
	return err
}

// hostConfig adds the functions of a system and its gateway to what the local host is told.
func hostConfig(s system.System, cfg local.Config) local.Config {
	cfg.Capabilities = behind(s)
	cfg.Front = func(env function.Env, described []*function.Function, directory discovery.Discovery) (http.Handler, error) {
		return s.Front(env, described, directory)
	}
	return cfg
}

// behind returns the functions behind the gateway.
func behind(s system.System) []local.Capability {
	var all []local.Capability
	for _, d := range s.Functions {
		if d.Name != s.Gateway {
			all = append(all, local.Capability(d))
		}
	}
	return all
}

// manifests returns what every function declares, the gateway last.
func manifests(s system.System) ([]function.Manifest, error) {
	_, all, err := describe(s)
	if err != nil {
		return nil, err
	}
	declared := make([]function.Manifest, len(all))
	for i, f := range all {
		declared[i] = f.Manifest()
	}
	return declared, nil
}

// derivedFile is a file that is made from what the functions declare.
type derivedFile struct {
	path string
	data []byte
}

// derivedFiles returns the files that generate writes, with their content.
func derivedFiles(s system.System) ([]derivedFile, error) {
	behind, all, err := describe(s)
	if err != nil {
		return nil, err
	}
	openAPI, err := s.OpenAPI(behind)
	if err != nil {
		return nil, err
	}
	asyncAPI, err := generate.AsyncAPI(behind)
	if err != nil {
		return nil, err
	}
	terraform, err := generate.Terraform(all)
	return []derivedFile{{"api/openapi.json", openAPI}, {"api/asyncapi.json", asyncAPI}, {"terraform/manifest.json", terraform}}, err
}

func describe(s system.System) (behind, all []*function.Function, err error) {
	if behind, err = s.Describe(nil); err != nil {
		return nil, nil, err
	}
	all = behind[:len(behind):len(behind)]
	for _, d := range s.Functions {
		if d.Name == s.Gateway {
			f, err := d.New(function.Env{}) // the gateway needs nothing to be described
			if err != nil {
				return nil, nil, err
			}
			all = append(all, f)
		}
	}
	return behind, all, nil
}
