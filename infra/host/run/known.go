package run

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth/oidc"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Known returns the settings that a file or Consul may have for the functions: those of the hosts and of telemetry, for
// every function, and those that each declares. What a platform sets is not among them, nor what names the sources.
func Known(declared manifest.System) source.Known {
	known := source.Known{Functions: map[string][]config.Variable{}}
	for _, v := range config.Variables[settings]("") {
		if strings.HasPrefix(v.Name, "EBB_") && v.Name != "EBB_MANIFEST_HASH" {
			known.Common = append(known.Common, v)
		}
	}
	known.Common = append(known.Common, others...)
	for _, d := range declared.Functions {
		own := []config.Variable{{
			Name: "EBB_DELIVERY_" + strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_")), Type: "string",
			Desc: "how events are delivered to the function, where that differs from the declaration: timeout=1m,batch=32",
		}}
		known.Functions[d.Name] = append(own, manifest.Variables(d.Settings)...)
	}
	return known
}

// others are the variables that are not fields of a struct here.
var others = []config.Variable{
	{Name: telemetry.LevelVariable, Type: "string", Default: "info", Reload: true,
		Desc: "the least level that is logged: debug, info, warn or error"},
	{Name: "EBB_LOG_FORMAT", Type: "string", Desc: "json or text"},
	{Name: "EBB_METRICS_TOKEN", Type: "string", Secret: true, Desc: "what a request for /metrics must show"},
	{Name: "EBB_DELIVERY", Type: "string",
		Desc: "how events are delivered, where that differs from the declarations: timeout=1m,batch=32"},
	{Name: oidc.IssuerVariable, Type: "string", Desc: "another issuer of access tokens"},
	{Name: "EBB_OIDC_AUDIENCE", Type: "string", Desc: "the aud claim of its tokens"},
	{Name: "EBB_OIDC_ROLES_CLAIM", Type: "string", Desc: "the claim of its tokens that has the roles"},
	{Name: "EBB_OIDC_ROLES", Type: "string", Desc: "which of its roles are which of ours"},
	{Name: "EBB_OIDC_SCOPES_CLAIM", Type: "string", Desc: "the claim of its tokens with what a token may be used for"},
	{Name: "EBB_OIDC_STAFF_ACR", Type: "string", Desc: "with which values of acr roles beyond customer count"},
	{Name: "OTEL_SDK_DISABLED", Type: "bool", Desc: "export nothing"},
	{Name: "OTEL_EXPORTER_OTLP_ENDPOINT", Type: "string", Desc: "where traces and metrics are exported to"},
	{Name: "OTEL_EXPORTER_OTLP_HEADERS", Type: "string", Secret: true, Desc: "headers of exports, as name=value,…"},
	{Name: "OTEL_TRACES_SAMPLER", Type: "string", Desc: "which traces are exported, such as parentbased_traceidratio"},
	{Name: "OTEL_TRACES_SAMPLER_ARG", Type: "string", Desc: "its argument, such as 0.1"},
	{Name: "OTEL_RESOURCE_ATTRIBUTES", Type: "string", Desc: "attributes of what is exported, as name=value,…"},
}

// Check reports what is not valid among the settings that a function would get, as a *config.Error. Of the function ""
// nothing is checked.
func Check(declared manifest.System) func(function string, lookup config.Lookup) error {
	return func(function string, lookup config.Lookup) error {
		var faults []error
		for _, d := range declared.Functions {
			if d.Name == function {
				faults = append(faults, d.CheckSettings(lookup))
				_, err := d.Tuned(lookup)
				_, hostErr := config.Load[settings]("", config.Overlay(config.Map(map[string]string{"FUNCTION": function}), lookup))
				faults = append(faults, err, hostErr)
			}
		}
		level, _ := lookup(telemetry.LevelVariable)
		if _, err := telemetry.ParseLevel(level); err != nil {
			faults = append(faults, hostsettings.Error(telemetry.LevelVariable, "%v", err))
		}
		return config.Join(faults...)
	}
}

// openSources opens the sources of settings that the environment names beside itself, and returns the lookup to use.
// The sources are nil if it names none.
func openSources(ctx context.Context, sys system.System, environment config.Lookup, log io.Writer) (
	*source.Sources, config.Lookup, error,
) {
	file, _ := environment(source.FileVariable)
	service, _ := environment(source.ConsulVariable)
	if file == "" && service == "" {
		return nil, environment, nil
	}
	name, _ := environment("FUNCTION")
	declared := sys.Declared()()
	if log == nil {
		log = os.Stderr
	}
	sources, err := source.Open(ctx, source.Config{
		Environment: environment, Known: Known(declared), Check: Check(declared), Function: name,
		Logger: slog.New(slog.NewJSONHandler(log, nil)).With("function", name),
	})
	if err != nil {
		return nil, nil, err
	}
	return sources, sources.Lookup, nil
}
