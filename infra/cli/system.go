package cli

import (
	"fmt"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/generate/clients"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
	"github.com/ebb-dev/ebb/infra/system"
)

// checkSettings returns an error for invalid settings of the functions. It ignores the signing keys and those for
// personal data, which the host makes itself.
func checkSettings(s system.System, sources *source.Sources) error {
	declared, err := s.Declare()
	if err != nil {
		return err
	}
	keys := config.Map(map[string]string{
		"EBB_SIGNING_KEYS": "made by the host", personal.Variable: personal.NewKey(),
	})
	var faults []error
	for _, d := range declared.Functions {
		faults = append(faults, sources.Locate(d.Name, d.CheckSettings(config.Overlay(sources.For(d.Name), keys))))
	}
	return config.Join(faults...)
}

// derivedFile is a file that is made from what the functions declare.
type derivedFile struct {
	path string
	data []byte
}

// derivedFiles returns the files that generate writes, with their content.
func derivedFiles(s system.System, declared manifest.System) ([]derivedFile, error) {
	for _, d := range declared.Functions {
		if err := transcode.Check(d.Function); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	openAPI, err := generate.OpenAPI(s.Documents, declared)
	if err != nil {
		return nil, err
	}
	asyncAPI, err := generate.AsyncAPI(s.Documents, declared)
	if err != nil {
		return nil, err
	}
	goClient, err := clients.Go(openAPI)
	if err != nil {
		return nil, err
	}
	module, types, err := clients.TypeScript(openAPI)
	if err != nil {
		return nil, err
	}
	terraform, err := generate.Terraform(declared)
	return []derivedFile{
		{"api/client/client.go", goClient},
		{"api/typescript/client.d.ts", types},
		{"api/typescript/client.js", module},
		{"api/openapi.json", openAPI},
		{"api/asyncapi.json", asyncAPI},
		{"terraform/manifest.json", terraform},
		{"api/config.schema.json", configSchema(s, declared)},
	}, err
}
