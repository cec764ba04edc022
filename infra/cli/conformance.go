package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/broker/conformance/kube"
	"github.com/ebb-dev/ebb/infra/fault"
)

// conformanceFlags holds the arguments of the command.
type conformanceFlags struct {
	cfg           conformance.Config
	out           output
	list, verbose bool
	only          string
	with, without string
	triggers      string // how triggers are made
	subscriptions string
	token         string

	kubeconfig, context, namespace, broker string
	settle                                 time.Duration
}

// conformanceCommand tests a broker. Its exit code is 1 when a case fails.
func (a *app) conformanceCommand() *cobra.Command {
	f := &conformanceFlags{token: fallback(a.Lookup, brokerToken, "")}
	c := &cobra.Command{
		Use:   "conformance URL",
		Short: "Test any CloudEvents broker by Knative's specifications and CESQL",
		Example: a.example(`
$ conformance http://127.0.0.1:8081
$ conformance --list --only cesql
$ conformance http://broker-ingress/ns/default --triggers knative --patience 3`),
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error { return a.conformance(c.Context(), f, args) },
	}
	f.define(c.Flags())
	f.out.define(a, c.Flags())
	completeFormats(c)
	return c
}

func (a *app) conformance(ctx context.Context, c *conformanceFlags, args []string) error {
	err := c.parse(args)
	if err != nil {
		return err
	}
	if c.list {
		return a.listCases(c)
	}
	if c.cfg.Triggers, err = c.driver(a); err != nil {
		return asUsage(err)
	}
	if c.verbose {
		c.cfg.Observe = func(r conformance.Result) { fmt.Fprintf(a.Err, "%-4s  %s\n", r.Outcome, r.ID) }
	}
	var report *conformance.Report
	run := func() (err error) { report, err = conformance.Run(ctx, c.cfg); return err }
	if c.verbose {
		err = run()
	} else {
		err = a.during("trying "+c.cfg.URL, run)
	}
	if report == nil {
		return asUsage(err)
	}
	switch failed := c.write(report); {
	case failed != nil:
		return failed
	case err != nil:
		return errors.New("interrupted; cases that had not finished are skipped in the report")
	case !report.OK():
		return errReported
	}
	return nil
}

// write writes the report: sections of sentences as text, or all of it as JSON or YAML.
func (c *conformanceFlags) write(report *conformance.Report) error {
	if !c.out.structured() {
		return report.WriteText(c.out.app.Out)
	}
	var b bytes.Buffer
	if err := report.WriteJSON(&b); err != nil {
		return err
	}
	return c.out.one(json.RawMessage(b.Bytes()))
}

func (c *conformanceFlags) define(f *pflag.FlagSet) {
	f.StringVar(&c.only, "only", "", "run the cases whose id or sentence matches this regular expression")
	f.BoolVar(&c.list, "list", false, "list the cases without running them")
	f.BoolVar(&c.verbose, "verbose", false, "report each case when it is done")
	f.Float64Var(&c.cfg.Patience, "patience", 1, "factor for every wait; a cluster needs 3 or more")
	f.IntVar(&c.cfg.Parallel, "parallel", 24, "how many cases run at once")
	f.StringVar(&c.cfg.Listen, "listen", "127.0.0.1:0", "where deliveries are received")
	f.StringVar(&c.cfg.Sink, "sink", "",
		"base URL under which the broker reaches --listen; by default http:// and the address")
	f.StringVar(&c.with, "with", "", "features that the broker has although they are off by default, with commas")
	f.StringVar(&c.without, "without", "", "features that the broker lacks, with commas:  "+names(conformance.Features()))
	f.StringVar(&c.triggers, "triggers", "subscriptions",
		"how triggers are made: by the Subscriptions API, or knative objects")
	f.StringVar(&c.subscriptions, "subscriptions", "", "URL of the Subscriptions API; /subscriptions below the broker's")
	f.StringVar(&c.kubeconfig, "kubeconfig", "",
		"for knative: the file (KUBECONFIG, ~/.kube/config, or the pod's service account)")
	f.StringVar(&c.context, "context", "", "for knative: the context of the kubeconfig; its current one")
	f.StringVar(&c.namespace, "namespace", "", "for knative: where the broker is; that of the context")
	f.StringVar(&c.broker, "broker", "default", "for knative: the broker's name")
	f.DurationVar(&c.settle, "settle", 2*time.Second, "for knative: how long to wait after a trigger has become Ready")
}

func names(all []conformance.Feature) string {
	out := make([]string, len(all))
	for i, c := range all {
		out[i] = string(c)
	}
	return strings.Join(out, ", ")
}

// parse checks the arguments and fills the configuration.
func (c *conformanceFlags) parse(rest []string) (err error) {
	switch {
	case len(rest) != 1 && !c.list:
		return usageErrorf("conformance wants one URL, the broker's ingress")
	case c.triggers != "subscriptions" && c.triggers != "knative":
		return usageErrorf("--triggers must be subscriptions or knative, not %q", c.triggers)
	case c.cfg.Patience <= 0 || c.cfg.Parallel <= 0:
		return usageErrorf("--patience and --parallel must be more than 0")
	}
	if len(rest) == 1 {
		c.cfg.URL = rest[0]
	}
	if c.only != "" {
		if c.cfg.Only, err = regexp.Compile(c.only); err != nil {
			return usageErrorf("--only: %v", err)
		}
		if len(conformance.Select(c.cfg.Only)) == 0 {
			return usageErrorf("--only %s matches no case; --list shows them", c.only)
		}
	}
	if c.cfg.With, err = featuresOf(c.with); err != nil {
		return err
	}
	without, err := featuresOf(c.without)
	c.cfg.Without = map[conformance.Feature]string{}
	for _, feature := range without {
		c.cfg.Without[feature] = "the broker lacks it (--without)"
	}
	if c.token != "" {
		c.cfg.Header = http.Header{"Authorization": {"Bearer " + c.token}}
	}
	return err
}

func featuresOf(list string) (out []conformance.Feature, err error) {
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		feature := conformance.Feature(name)
		if !slices.Contains(conformance.Features(), feature) {
			return nil, usageErrorf("unknown feature %q (use %s)", name, names(conformance.Features()))
		}
		out = append(out, feature)
	}
	return out, nil
}

func (a *app) listCases(c *conformanceFlags) error {
	t := a.table("ID", "LEVEL", "NEEDS", "SENTENCE")
	for _, listed := range conformance.Select(c.cfg.Only) {
		if c.out.structured() {
			if err := c.out.item(listed); err != nil {
				return err
			}
			continue
		}
		t.row(listed.ID, string(listed.Level), names(listed.Needs), listed.Sentence)
	}
	if !c.out.structured() {
		t.flush()
	}
	return nil
}

// driver returns the driver that makes triggers.
func (c *conformanceFlags) driver(a *app) (conformance.Triggers, error) {
	if c.triggers == "subscriptions" {
		if c.subscriptions == "" {
			c.subscriptions = strings.TrimSuffix(c.cfg.URL, "/") + "/subscriptions"
		}
		return &conformance.SubscriptionsAPI{URL: c.subscriptions, Header: c.cfg.Header}, nil
	}
	access, err := c.access(a)
	if err != nil {
		return nil, err
	}
	return kube.New(access, kube.Config{Namespace: c.namespace, Broker: c.broker, ReadyDelay: c.settle}), nil
}

// access returns the access of the given kubeconfig, the default one, or the pod's service account.
func (c *conformanceFlags) access(a *app) (*kube.Access, error) {
	path := c.kubeconfig
	if path == "" {
		path, _, _ = strings.Cut(fallback(a.Lookup, "KUBECONFIG", ""), string(filepath.ListSeparator))
	}
	if path != "" {
		return kube.Load(path, c.context)
	}
	path = filepath.Join(fallback(a.Lookup, "HOME", "."), ".kube", "config")
	host := fallback(a.Lookup, "KUBERNETES_SERVICE_HOST", "")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && host != "" {
		return kube.InCluster(host, fallback(a.Lookup, "KUBERNETES_SERVICE_PORT", "443"), kube.ServiceAccount)
	}
	return kube.Load(path, c.context)
}

// asUsage turns an error of the kind Invalid into a usage error.
func asUsage(err error) error {
	if fault.Is(err, fault.Invalid) {
		return usageError{err}
	}
	return err
}
