package generate

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// objective is what share of something goes well in a month.
type objective struct {
	slo   string // the name of the objective
	ratio string // such as "0.999"
	by    string // the labels that tell one subject from another, with commas between
	bad   string // the rate of what does not go well, with %s for the window
	all   string // the rate of everything
	about string // of the alerts, with the labels of the subject
}

// slowFrom is the bucket that requests of a fast operation end in, in seconds.
const slowFrom = "0.5"

// objectives are those of operations, as clients see them at the gateway, and those of sagas.
var objectives = []objective{
	{
		slo: "availability", ratio: "0.999", by: "http_route, http_request_method",
		bad: `sum by (http_route, http_request_method) (rate(http_server_request_duration_seconds_count` +
			`{function="gateway",http_response_status_code=~"5.."}[%[1]s]))`,
		all: `sum by (http_route, http_request_method) (rate(http_server_request_duration_seconds_count` +
			`{function="gateway"}[%[1]s]))`,
		about: "{{ $labels.http_request_method }} {{ $labels.http_route }} fails",
	},
	{
		slo: "latency", ratio: "0.99", by: "http_route, http_request_method",
		bad: `sum by (http_route, http_request_method) (rate(http_server_request_duration_seconds_count` +
			`{function="gateway",http_request_method="GET"}[%[1]s])) - ` +
			`sum by (http_route, http_request_method) (rate(http_server_request_duration_seconds_bucket` +
			`{function="gateway",http_request_method="GET",le="` + slowFrom + `"}[%[1]s]))`,
		all: `sum by (http_route, http_request_method) (rate(http_server_request_duration_seconds_count` +
			`{function="gateway",http_request_method="GET"}[%[1]s]))`,
		about: "{{ $labels.http_request_method }} {{ $labels.http_route }} takes more than " + slowFrom + " seconds",
	},
	{
		slo: "progress", ratio: "0.999", by: "saga",
		bad:   `sum by (saga) (rate(ebb_sagas_stuck_total[%[1]s]))`,
		all:   `sum by (saga) (rate({__name__=~"ebb_sagas_(stuck|ended)_total"}[%[1]s]))`,
		about: "sagas of {{ $labels.saga }} become stuck",
	},
}

// burn is a pair of windows over which an error budget is used up too fast, when it is used up factor times as fast as
// it lasts a month.
type burn struct{ short, long, factor string }

// The pairs of the Google SRE Workbook, chapter 5, in which sloth's alerts are too: a person is called at once, or gets
// a ticket.
var (
	windows = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
	pages   = []burn{{"5m", "1h", "14.4"}, {"30m", "6h", "6"}}
	tickets = []burn{{"2h", "1d", "3"}, {"6h", "3d", "1"}}
)

// Rules returns Prometheus's rules for the objectives of every operation and every saga of a system: recording rules
// and alerts by the names and labels of sloth, so that its dashboards show them. A subject is a set of labels, not a
// rule of its own, so that only the objectives grow in number with the operations.
func Rules(system manifest.System) []byte {
	var b bytes.Buffer
	b.WriteString("# Derived from the functions by `generate`. Objectives, error ratios and alerts as sloth names them.\n")
	b.WriteString("groups:\n")
	b.WriteString("- name: ebb-objectives\n  interval: 1m\n  rules:\n")
	for _, d := range system.Sorted() {
		for _, r := range d.Routes {
			writeObjective(&b, objectives[0], d.Name, operation(r)...)
			if r.Method == "GET" {
				writeObjective(&b, objectives[1], d.Name, operation(r)...)
			}
		}
		for _, saga := range sagas(d.Routes) {
			writeObjective(&b, objectives[2], d.Name, [2]string{"saga", saga})
		}
	}
	for _, o := range objectives {
		writeRatios(&b, o)
		writeAlerts(&b, o)
	}
	return b.Bytes()
}

// operation returns the labels of an operation.
func operation(r manifest.Route) [][2]string {
	return [][2]string{{"http_request_method", r.Method}, {"http_route", r.Path}}
}

// sagas returns the names of the sagas that have operations for operators.
func sagas(routes []manifest.Route) []string {
	var names []string
	for _, r := range routes {
		name, ok := strings.CutPrefix(r.Path, "/api/sagas/")
		if ok && r.Method == "GET" && !strings.ContainsAny(name, "/{") {
			names = append(names, name)
		}
	}
	return names
}

func writeObjective(b *bytes.Buffer, o objective, function string, subject ...[2]string) {
	labels := fmt.Sprintf("sloth_service: %q, sloth_slo: %q", function, o.slo)
	for _, l := range subject {
		labels += fmt.Sprintf(", %s: %q", l[0], l[1])
	}
	fmt.Fprintf(b, "  - {record: \"slo:objective:ratio\", expr: \"vector(%s)\", labels: {%s}}\n", o.ratio, labels)
}

// writeRatios writes the share of what does not go well in each window, with the service of the subject. Subjects that
// are not declared have no objective, and are left out.
func writeRatios(b *bytes.Buffer, o objective) {
	fmt.Fprintf(b, "- name: ebb-slo-%s\n  rules:\n", o.slo)
	for _, w := range windows {
		fmt.Fprintf(b, "  - record: slo:sli_error:ratio_rate%s\n    labels: {sloth_slo: %q, sloth_window: %q}\n", w, o.slo, w)
		b.WriteString("    expr: >-\n")
		fmt.Fprintf(b, "      ((%s) or 0 * (%s))\n      /\n      (%s > 0)\n", fmt.Sprintf(o.bad, w), fmt.Sprintf(o.all, w),
			fmt.Sprintf("("+o.all+")", w))
		fmt.Fprintf(b, "      * on (%s) group_left (sloth_service)\n", o.by)
		fmt.Fprintf(b, "      (slo:objective:ratio{sloth_slo=%q} > bool 0)\n", o.slo)
	}
	record := func(name, window, expr string) {
		fmt.Fprintf(b, "  - record: slo:%s\n    labels: {sloth_slo: %q%s}\n", name, o.slo, window)
		fmt.Fprintf(b, "    expr: >-\n      %s\n", expr)
	}
	record("sli_error:ratio_rate30d", `, sloth_window: "30d"`,
		fmt.Sprintf("avg_over_time(slo:sli_error:ratio_rate5m{sloth_slo=%q}[30d])", o.slo))
	record("error_budget:ratio", "", fmt.Sprintf("1 - slo:objective:ratio{sloth_slo=%q}", o.slo))
	record("current_burn_rate:ratio", "", over(o, "5m", ""))
	record("period_burn_rate:ratio", "", over(o, "30d", ""))
}

// over returns how fast the budget is used up in a window, and only where it is faster than a factor, if there is one.
func over(o objective, window, factor string) string {
	rate := fmt.Sprintf(`slo:sli_error:ratio_rate%s{sloth_slo=%q}`, window, o.slo)
	rate = fmt.Sprintf(`max without (sloth_window) (%s) / on (%s, sloth_slo, sloth_service) `, rate, o.by) +
		fmt.Sprintf(`slo:error_budget:ratio{sloth_slo=%q}`, o.slo)
	if factor == "" {
		return rate
	}
	return "(" + rate + " > " + factor + ")"
}

func writeAlerts(b *bytes.Buffer, o objective) {
	fmt.Fprintf(b, "- name: ebb-slo-alerts-%s\n  rules:\n", o.slo)
	for _, severity := range []struct {
		name  string
		pairs []burn
	}{{"page", pages}, {"ticket", tickets}} {
		var both []string
		for _, p := range severity.pairs {
			both = append(both, over(o, p.short, p.factor)+"\n      and\n      "+over(o, p.long, p.factor))
		}
		fmt.Fprintf(b, "  - alert: Ebb%s%sBudget\n    labels: {sloth_severity: %q, severity: %q}\n    expr: >-\n      %s\n",
			strings.ToUpper(o.slo[:1]), o.slo[1:], severity.name, severity.name, strings.Join(both, "\n      or\n      "))
		fmt.Fprintf(b, "    annotations:\n      summary: %q\n      description: %q\n", o.about,
			"It is used up {{ $value | printf \"%.1f\" }} times as fast as the error budget lasts 30 days.")
	}
}
