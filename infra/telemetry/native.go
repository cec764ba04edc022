package telemetry

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// nativeBuckets is the form of a native histogram: Prometheus's finest resolution at first, and a coarser one as soon
// as the observations are further apart than that many buckets.
var nativeBuckets = sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 8}

// exponentialHistograms aggregates histograms into exponential ones.
func exponentialHistograms(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if kind == sdkmetric.InstrumentKindHistogram {
		return nativeBuckets
	}
	return sdkmetric.DefaultAggregationSelector(kind)
}

// onlyHistograms does the same, and drops what is no histogram.
func onlyHistograms(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if kind == sdkmetric.InstrumentKindHistogram {
		return nativeBuckets
	}
	return sdkmetric.AggregationDrop{}
}

// newNativeReader returns a reader that gathers all histograms as native ones, and nothing else.
func newNativeReader(registry *prometheus.Registry) (sdkmetric.Reader, error) {
	return otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo(),
		otelprom.WithAggregationSelector(onlyHistograms))
}

// wantsProtobuf reports whether a scraper prefers Prometheus's protobuf format, the only one with native histograms.
func wantsProtobuf(r *http.Request) bool {
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	return format.FormatType() == expfmt.TypeProtoDelim
}

// withNative gathers histograms with both classic and native buckets. The scraper chooses: those that know native
// histograms store them, and classic ones too if they are told so.
type withNative struct{ classic, native prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (w withNative) Gather() ([]*dto.MetricFamily, error) {
	all, err := w.classic.Gather()
	if err != nil && len(all) == 0 {
		return all, err
	}
	// Later than the classic ones: each observation is in those first, so none is there that is missing here.
	native, nativeErr := w.native.Gather()
	if nativeErr != nil {
		err = nativeErr
	}
	histograms := map[string]*dto.Histogram{}
	for _, family := range native {
		for _, m := range family.Metric {
			histograms[seriesOf(family, m)] = m.Histogram
		}
	}
	for _, family := range all {
		if family.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		for _, m := range family.Metric {
			if n := histograms[seriesOf(family, m)]; n != nil && m.Histogram != nil {
				addNative(m.Histogram, n)
			}
		}
	}
	return all, err
}

// seriesOf returns a text that names a metric and its labels.
func seriesOf(family *dto.MetricFamily, m *dto.Metric) string {
	var b strings.Builder
	b.WriteString(family.GetName())
	labels := slices.SortedFunc(slices.Values(m.Label), func(a, b *dto.LabelPair) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	for _, l := range labels {
		b.WriteByte(0)
		b.WriteString(l.GetName())
		b.WriteByte(0)
		b.WriteString(l.GetValue())
	}
	return b.String()
}

// addNative adds native buckets to a histogram with classic ones. The count and the sum are the native ones': those
// must agree with the native buckets, and may have observations more than the classic buckets.
func addNative(h, native *dto.Histogram) {
	h.SampleCount, h.SampleSum, h.CreatedTimestamp = native.SampleCount, native.SampleSum, native.CreatedTimestamp
	h.Schema, h.ZeroThreshold, h.ZeroCount = native.Schema, native.ZeroThreshold, native.ZeroCount
	h.PositiveSpan, h.PositiveDelta = native.PositiveSpan, native.PositiveDelta
	h.NegativeSpan, h.NegativeDelta = native.NegativeSpan, native.NegativeDelta
	h.Exemplars = native.Exemplars
}

// scrapeLog logs the errors of a scrape.
type scrapeLog struct{ *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(values ...any) { l.Warn("some metrics are not served", "error", values) }
