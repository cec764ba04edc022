package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// environment looks up variables. An empty value counts as not set, as the OpenTelemetry specification requires.
type environment func(key string) (string, bool)

func (e environment) get(keys ...string) string {
	if e == nil {
		return ""
	}
	for _, key := range keys {
		if value, _ := e(key); strings.TrimSpace(value) != "" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// exports are the exporters that the standard variables configure; a signal that is nil is not exported.
type exports struct {
	traces, metrics, logs *endpoint
	exponential           bool // histograms are pushed as exponential ones
	sampler               sdktrace.Sampler
	keep                  time.Duration // see tail; 0: the sampler decides alone
}

// endpoint is where and how one signal is exported.
type endpoint struct {
	url      string
	headers  map[string]string
	timeout  time.Duration
	gzip     bool
	interval time.Duration // of metrics
}

// exports returns what the variables of the specification's "Environment Variable" pages configure. It differs from
// them in one point: nothing is exported unless an endpoint or an exporter is named.
func (e environment) exports() (exports, error) {
	var x exports
	var traces, metrics, logs, histograms, sampler, keep error
	if disabled, _ := strconv.ParseBool(e.get("OTEL_SDK_DISABLED")); disabled {
		x.sampler = sdktrace.NeverSample()
		return x, nil
	}
	x.traces, traces = e.signal("TRACES")
	x.metrics, metrics = e.signal("METRICS")
	x.logs, logs = e.signal("LOGS")
	x.exponential, histograms = e.exponential()
	x.sampler, sampler = e.sampler()
	x.keep, keep = e.keep(strings.HasSuffix(strings.ToLower(e.get("OTEL_TRACES_SAMPLER")), "traceidratio"))
	return x, errors.Join(traces, metrics, logs, histograms, sampler, keep)
}

// exponential reports whether the histograms that are pushed are exponential ones.
func (e environment) exponential() (bool, error) {
	const key = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
	switch value := strings.ToLower(e.get(key)); value {
	case "", "explicit_bucket_histogram":
		return false, nil
	case "base2_exponential_bucket_histogram":
		return true, nil
	default:
		return false, fmt.Errorf(
			"invalid %s %q: want explicit_bucket_histogram or base2_exponential_bucket_histogram", key, value)
	}
}

func (e environment) signal(name string) (*endpoint, error) {
	wanted, err := e.wanted(name)
	if err != nil || !wanted {
		return nil, err
	}
	protocol := e.get("OTEL_EXPORTER_OTLP_"+name+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; only http/protobuf is spoken", protocol)
	}
	p := &endpoint{gzip: e.get("OTEL_EXPORTER_OTLP_"+name+"_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION") == "gzip"}
	var where, head, wait, every error
	p.url, where = e.url(name)
	p.headers, head = pairs("OTEL_EXPORTER_OTLP_HEADERS",
		e.get("OTEL_EXPORTER_OTLP_"+name+"_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"))
	p.timeout, wait = e.millis(10*time.Second, "OTEL_EXPORTER_OTLP_"+name+"_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
	p.interval, every = e.millis(time.Minute, "OTEL_METRIC_EXPORT_INTERVAL")
	return p, errors.Join(where, head, wait, every)
}

// wanted reports whether OTEL_TRACES_EXPORTER or the like names OTLP. Prometheus is always served, so that naming it
// changes nothing.
func (e environment) wanted(name string) (bool, error) {
	key := "OTEL_" + name + "_EXPORTER"
	value := e.get(key)
	if value == "" {
		return e.get("OTEL_EXPORTER_OTLP_"+name+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != "", nil
	}
	accepted := []string{"otlp", "none"}
	if name == "METRICS" {
		accepted = append(accepted, "prometheus")
	}
	wanted := false
	for exporter := range strings.SplitSeq(value, ",") {
		exporter = strings.TrimSpace(exporter)
		if !slices.Contains(accepted, exporter) {
			return false, fmt.Errorf("%s is %q; expected one of %s", key, value, strings.Join(accepted, ", "))
		}
		wanted = wanted || exporter == "otlp"
	}
	return wanted, nil
}

// url returns a signal's own endpoint unchanged, or the common one with the signal's path.
func (e environment) url(name string) (string, error) {
	key := "OTEL_EXPORTER_OTLP_" + name + "_ENDPOINT"
	raw, path := e.get(key), ""
	if raw == "" {
		key, path = "OTEL_EXPORTER_OTLP_ENDPOINT", "v1/"+strings.ToLower(name)
		raw = e.get(key)
	}
	if raw == "" {
		raw = "http://localhost:4318"
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%s is not an http or https URL", key)
	}
	return u.JoinPath(path).String(), nil
}

func (e environment) millis(otherwise time.Duration, keys ...string) (time.Duration, error) {
	value := e.get(keys...)
	if value == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s is %q; expected a number of milliseconds", keys[len(keys)-1], value)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// pairs decodes "a=b,c=d" with percent-encoded values. Its errors do not quote them, because headers hold API keys.
func pairs(key, list string) (map[string]string, error) {
	all := map[string]string{}
	if list == "" {
		return all, nil
	}
	for pair := range strings.SplitSeq(list, ",") {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" {
			return nil, fmt.Errorf("%s is not a list of name=value with commas between", key)
		}
		all[name] = value
	}
	return all, nil
}

// sampler returns the sampler of OTEL_TRACES_SAMPLER; the default is parentbased_always_on, as in the specification.
func (e environment) sampler() (sdktrace.Sampler, error) {
	name := strings.ToLower(e.get("OTEL_TRACES_SAMPLER"))
	plain, follows := strings.CutPrefix(name, "parentbased_")
	var s sdktrace.Sampler
	switch plain {
	case "":
		s, follows = sdktrace.AlwaysSample(), true
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := e.ratio()
		if err != nil {
			return nil, err
		}
		s = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("invalid OTEL_TRACES_SAMPLER %q: "+
			"want always_on, always_off or traceidratio, or one of them after parentbased_", name)
	}
	if follows {
		s = sdktrace.ParentBased(s)
	}
	return s, nil
}

func (e environment) ratio() (float64, error) {
	arg := e.get("OTEL_TRACES_SAMPLER_ARG")
	if arg == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(arg, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; expected a number from 0 to 1", arg)
	}
	return ratio, nil
}

// resource describes the process. The operator's variables take precedence over the program.
func (e environment) resource(service, version string) *resource.Resource {
	attrs := []attribute.KeyValue{
		attribute.String("telemetry.sdk.name", "opentelemetry"),
		attribute.String("telemetry.sdk.language", "go"),
		attribute.String("telemetry.sdk.version", sdk.Version()),
		attribute.String("service.name", service),
	}
	if version != "" {
		attrs = append(attrs, attribute.String("service.version", version))
	}
	own, _ := pairs("", e.get("OTEL_RESOURCE_ATTRIBUTES")) // malformed pairs are left out, as the specification asks
	for name, value := range own {
		attrs = append(attrs, attribute.String(name, value))
	}
	if name := e.get("OTEL_SERVICE_NAME"); name != "" {
		attrs = append(attrs, attribute.String("service.name", name))
	}
	return resource.NewSchemaless(attrs...) // of two with one name the last is kept
}

func (p *endpoint) spans(ctx context.Context) (sdktrace.SpanExporter, error) {
	compression := otlptracehttp.NoCompression
	if p.gzip {
		compression = otlptracehttp.GzipCompression
	}
	return otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(p.url),
		otlptracehttp.WithHeaders(p.headers),
		otlptracehttp.WithTimeout(p.timeout),
		otlptracehttp.WithCompression(compression),
	)
}

func (p *endpoint) logs(ctx context.Context) (sdklog.Exporter, error) {
	compression := otlploghttp.NoCompression
	if p.gzip {
		compression = otlploghttp.GzipCompression
	}
	return otlploghttp.New(ctx,
		otlploghttp.WithEndpointURL(p.url),
		otlploghttp.WithHeaders(p.headers),
		otlploghttp.WithTimeout(p.timeout),
		otlploghttp.WithCompression(compression),
	)
}

func (p *endpoint) reader(ctx context.Context, native bool, failed *failures) (sdkmetric.Reader, error) {
	compression := otlpmetrichttp.NoCompression
	if p.gzip {
		compression = otlpmetrichttp.GzipCompression
	}
	aggregation := sdkmetric.DefaultAggregationSelector
	if native {
		aggregation = exponentialHistograms
	}
	exporter, err := otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithAggregationSelector(aggregation),
		otlpmetrichttp.WithEndpointURL(p.url),
		otlpmetrichttp.WithHeaders(p.headers),
		otlpmetrichttp.WithTimeout(p.timeout),
		otlpmetrichttp.WithCompression(compression),
	)
	if err != nil {
		return nil, err
	}
	return sdkmetric.NewPeriodicReader(metricExporter{exporter, failed}, sdkmetric.WithInterval(p.interval)), nil
}
