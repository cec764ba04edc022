// Command dashboards writes Grafana's dashboards, which are derived from the manifests of the functions: one of the
// system, and one of each function.
//
//	go run -C cmd/dashboards .            writes observe/dashboards
//	go run -C cmd/dashboards . -check     reports the files that are stale, and writes nothing
//
// It is a module of its own, so that no program of the kit depends on Grafana's library.
package main

//lint:file-ignore SA1019 dashboards v2 need Grafana 12; every Grafana takes these

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	check := flag.Bool("check", false, "report stale files and write nothing")
	root := flag.String("root", "../..", "the `folder` with terraform/manifest.json and observe/")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// function is what dashboards show of a manifest.
type function struct {
	Name     string
	Routes   []struct{ Method, Path string }
	Consumes []string `json:"hears"`
	Emits    []string `json:"says"`
}

func run(root string, check bool) error {
	data, err := os.ReadFile(filepath.Join(root, "terraform", "manifest.json"))
	if err != nil {
		return err
	}
	var manifests struct{ Functions map[string]function }
	if err := json.Unmarshal(data, &manifests); err != nil {
		return fmt.Errorf("terraform/manifest.json: %w", err)
	}
	files := map[string]*dashboard.DashboardBuilder{"system.json": system()}
	for name, f := range manifests.Functions {
		if len(f.Routes) > 0 || len(f.Consumes) > 0 {
			files[name+".json"] = one(f)
		}
	}
	dir, stale := filepath.Join(root, "observe", "dashboards"), false
	for _, name := range slices.Sorted(maps.Keys(files)) {
		changed, err := write(filepath.Join(dir, name), files[name], check)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		stale = stale || changed
	}
	gone, err := removeOthers(dir, files, check)
	if err != nil {
		return err
	}
	if check && (stale || gone) {
		return errors.New("run make generate and commit what it wrote")
	}
	return nil
}

// write writes a dashboard, or with check only reports whether its file is stale.
func write(path string, d *dashboard.DashboardBuilder, check bool) (stale bool, err error) {
	built, err := d.Build()
	if err != nil {
		return false, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(built); err != nil {
		return false, err
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if bytes.Equal(before, b.Bytes()) {
		return false, nil
	}
	if check {
		fmt.Fprintln(os.Stderr, path, "is stale")
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	fmt.Println("wrote", path)
	return true, os.WriteFile(path, b.Bytes(), 0o644)
}

// removeOthers removes the dashboards of functions that are gone, or with check only reports them.
func removeOthers(dir string, files map[string]*dashboard.DashboardBuilder, check bool) (stale bool, err error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return false, err
	}
	for _, path := range found {
		if files[filepath.Base(path)] != nil {
			continue
		}
		if check {
			fmt.Fprintln(os.Stderr, path, "is of no function")
			stale = true
			continue
		}
		if err := os.Remove(path); err != nil {
			return stale, err
		}
	}
	return stale, nil
}

// board begins a dashboard. Its metrics are from the data source that the person who looks chooses.
func board(title, uid string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Tags([]string{"ebb", "generated"}).Editable().
		Time("now-1h", "now").Refresh("30s").Timezone(common.TimeZoneBrowser).
		WithVariable(dashboard.NewDatasourceVariableBuilder("source").Label("Data source").Type("prometheus"))
}

// series is one query of a panel and the names of its lines.
type series struct{ query, legend string }

// panel is a chart over time, half as wide as the page.
func panel(title, about, unit string, all ...series) cog.Builder[dashboard.Panel] {
	p := timeseries.NewPanelBuilder().Title(title).Description(about).Unit(unit).Min(0).Span(12).Height(8).
		Datasource(common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("$source")})
	for n, s := range all {
		p.WithTarget(prometheus.NewDataqueryBuilder().Expr(s.query).LegendFormat(s.legend).Range().
			RefId(string(rune('A' + n))))
	}
	return p
}

// quantile returns the query of a quantile of a histogram.
func quantile(q, histogram, filter, by string) string {
	return fmt.Sprintf("histogram_quantile(%s, sum by (le, %s) (rate(%s_bucket{%s}[$__rate_interval])))", q, by, histogram,
		filter)
}

// rate returns the query of a counter's rate.
func rate(counter, filter, by string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}[$__rate_interval]))", by, counter, filter)
}

const (
	requests   = "http_server_request_duration_seconds"
	deliveries = "messaging_process_duration_seconds"
	failed     = `http_response_status_code=~"5.."`
)

// system returns the dashboard of the whole system.
func system() *dashboard.DashboardBuilder {
	const edge, operation = `function="gateway"`, "http_request_method, http_route"
	const name = "{{http_request_method}} {{http_route}}"
	return board("Ebb: the system", "ebb-system").
		WithRow(dashboard.NewRowBuilder("Requests, as clients see them")).
		WithPanel(panel("Requests", "By operation.", "reqps", series{rate(requests+"_count", edge, operation), name})).
		WithPanel(panel("Failures", "Answers of status 500 and more.", "reqps",
			series{rate(requests+"_count", edge+", "+failed, operation), name})).
		WithPanel(panel("Latency, 99th percentile", "By operation.", "s",
			series{quantile("0.99", requests, edge, operation), name})).
		WithPanel(panel("Burn rates", "How fast the error budgets are used up; at 1 they last 30 days.", "short",
			series{"slo:current_burn_rate:ratio > 0", "{{sloth_slo}} " + name + " {{saga}}"})).
		WithRow(dashboard.NewRowBuilder("Events")).
		WithPanel(panel("Deliveries", "By function.", "ops",
			series{rate(deliveries+"_count", "", "function"), "{{function}}"})).
		WithPanel(panel("Failed deliveries", "By function and kind of fault.", "ops",
			series{rate(deliveries+"_count", `error_type!=""`, "function, error_type"), "{{function}} {{error_type}}"})).
		WithPanel(panel("Events that wait in an outbox", "The age of the oldest one.", "s",
			series{"max by (function) (ebb_outbox_oldest_age_seconds)", "{{function}}"})).
		WithPanel(panel("Given up, tried again", "By trigger.", "ops",
			series{rate("ebb_dead_letters_total", "", "trigger"), "dead letters {{trigger}}"},
			series{rate("ebb_retries_total", "", "trigger"), "retries {{trigger}}"})).
		WithRow(dashboard.NewRowBuilder("Sagas and outside calls")).
		WithPanel(panel("Sagas", "Ended by status, and those that became stuck.", "ops",
			series{rate("ebb_sagas_ended_total", "", "saga, status"), "{{saga}} {{status}}"},
			series{rate("ebb_sagas_stuck_total", "", "saga, step"), "{{saga}} stuck at {{step}}"})).
		WithPanel(panel("Outside calls", "Without a result, and those of them that have failed.", "short",
			series{"sum by (function, call) (ebb_calls_open)", "{{function}} {{call}}"},
			series{"sum by (function, call) (ebb_calls_failing)", "{{function}} {{call}} failing"})).
		WithRow(dashboard.NewRowBuilder("Gateway")).
		WithPanel(panel("Being served", "By operation.", "short",
			series{"sum by (route) (ebb_gateway_running)", "{{route}}"})).
		WithPanel(panel("Refused", "By rate limits, and for a function's sake.", "reqps",
			series{rate("ebb_gateway_limited_total", "", "route, limit"), "{{route}} {{limit}}"},
			series{rate("ebb_gateway_shed_total", "", "function, reason"), "{{function}} {{reason}}"})).
		WithPanel(panel("Stored answers", "What the cache did.", "reqps",
			series{rate("ebb_gateway_cached_total", "", "route, result"), "{{route}} {{result}}"})).
		WithPanel(panel("Instances", "As the gateway knows them.", "short",
			series{"max by (function, state) (ebb_gateway_instances)", "{{function}} {{state}}"})).
		WithRow(dashboard.NewRowBuilder("Functions")).
		WithPanel(panel("Cold starts", "By function.", "ops",
			series{rate("faas_coldstarts_total", "", "function"), "{{function}}"})).
		WithPanel(panel("How long a start takes, 95th percentile", "By function.", "s",
			series{quantile("0.95", "faas_init_duration_seconds", "", "function"), "{{function}}"})).
		WithPanel(panel("Memory", "Resident, by process.", "bytes", series{"process_resident_memory_bytes", "{{instance}}"})).
		WithPanel(panel("Conflicts and duplicates", "By function.", "ops",
			series{rate("ebb_conflicts_total", "", "function"), "conflicts {{function}}"},
			series{rate("ebb_duplicates_total", "", "function"), "duplicates {{function}}"}))
}

// one returns the dashboard of a function: a line for each operation and each type of event of its manifest.
func one(f function) *dashboard.DashboardBuilder {
	b := board("Ebb: "+f.Name, "ebb-"+f.Name)
	own := fmt.Sprintf("function=%q", f.Name)
	if len(f.Routes) > 0 {
		var rates, failures, times []series
		for _, r := range f.Routes {
			filter := fmt.Sprintf("%s, http_request_method=%q, http_route=%q", own, r.Method, r.Path)
			name := r.Method + " " + r.Path
			rates = append(rates, series{rate(requests+"_count", filter, "function"), name})
			failures = append(failures, series{rate(requests+"_count", filter+", "+failed, "function"), name})
			times = append(times, series{quantile("0.99", requests, filter, "function"), name})
		}
		b.WithRow(dashboard.NewRowBuilder("Operations"))
		charts(b, "Requests", "By operation.", "reqps", rates)
		charts(b, "Failures", "Answers of status 500 and more.", "reqps", failures)
		charts(b, "Latency, 99th percentile", "By operation.", "s", times)
	}
	if len(f.Consumes) > 0 {
		var rates, failures, times []series
		for _, eventType := range f.Consumes {
			if eventType == "*" {
				continue
			}
			filter := fmt.Sprintf("%s, messaging_destination_name=%q", own, eventType)
			name := strings.TrimPrefix(eventType, "dev.ebb.")
			rates = append(rates, series{rate(deliveries+"_count", filter, "function"), name})
			failures = append(failures, series{rate(deliveries+"_count", filter+`, error_type!=""`, "function"), name})
			times = append(times, series{quantile("0.99", deliveries, filter, "function"), name})
		}
		b.WithRow(dashboard.NewRowBuilder("Events that it consumes"))
		charts(b, "Deliveries", "By type.", "ops", rates)
		charts(b, "Failed deliveries", "By type.", "ops", failures)
		charts(b, "Time of a delivery, 99th percentile", "By type.", "s", times)
	}
	b.WithRow(dashboard.NewRowBuilder("State"))
	b.WithPanel(panel("Published", "Events.", "ops",
		series{rate("messaging_client_sent_messages_total", own, "function"), "events"}))
	b.WithPanel(panel("Outbox", "The age of the oldest event that is not published.", "s",
		series{fmt.Sprintf("max(ebb_outbox_oldest_age_seconds{%s})", own), "age"}))
	b.WithPanel(panel("Conflicts, duplicates", "Commits that lost a race, and events that had been handled before.", "ops",
		series{rate("ebb_conflicts_total", own, "function"), "conflicts"},
		series{rate("ebb_duplicates_total", own, "function"), "duplicates"}))
	b.WithPanel(panel("Cold starts", "", "ops", series{rate("faas_coldstarts_total", own, "function"), "starts"}))
	return b
}

// perChart is how many lines a chart has at most.
const perChart = 20

// charts adds as many charts as the series need.
func charts(b *dashboard.DashboardBuilder, title, about, unit string, all []series) {
	n := 0
	for some := range slices.Chunk(all, perChart) {
		name := title
		if n++; len(all) > perChart {
			name = fmt.Sprintf("%s (%d)", title, n)
		}
		b.WithPanel(panel(name, about, unit, some...))
	}
}
