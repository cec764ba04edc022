package source

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/internal/blockingquery"
	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// kv reads the keys below a prefix from the key-value store of Consul.
type kv struct {
	base, prefix, token string
	query               url.Values
	client              http.Client
	index               uint64 // of the first answer
}

// newKV returns the store of a URL: consul:PREFIX for the agent of this machine, consul://HOST:PORT/PREFIX or
// consul+https://HOST:PORT/PREFIX, with ?dc= for another datacenter. The token is that of CONSUL_HTTP_TOKEN.
func newKV(address string, cfg Config) (*kv, error) {
	u, err := url.Parse(address)
	scheme := map[string]string{"consul": "http", "consul+https": "https"}
	if err != nil || scheme[u.Scheme] == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("want consul:PREFIX, consul://HOST:PORT/PREFIX or consul+https://HOST:PORT/PREFIX")
	}
	k := &kv{prefix: strings.Trim(u.Path+u.Opaque, "/"), query: url.Values{"recurse": {""}}}
	if k.prefix == "" {
		return nil, errors.New("has no prefix of keys: want consul://HOST:PORT/PREFIX")
	}
	for name, values := range u.Query() {
		if name != "dc" {
			return nil, errors.New("has an unknown parameter (use dc)")
		}
		k.query[name] = values
	}
	k.base = scheme[u.Scheme] + "://" + u.Host
	if u.Host == "" {
		k.base = "http://127.0.0.1:8500"
	}
	k.token, _ = cfg.Environment("CONSUL_HTTP_TOKEN")
	k.client = http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token must not go to another host
	}}
	return k, nil
}

// pair is a key of the store. Value is null for a folder.
type pair struct {
	Key   string
	Value []byte
}

// read returns the keys below the prefix as soon as their index differs from index, or after the wait time.
func (k *kv) read(ctx context.Context, index uint64) (pairs []pair, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, blockingquery.Timeout)
	defer cancel()
	query := url.Values{"index": {strconv.FormatUint(index, 10)}, "wait": {blockingquery.Wait.String()}}
	for name, values := range k.query {
		query[name] = values
	}
	path := (&url.URL{Path: "/v1/kv/" + k.prefix + "/"}).EscapedPath()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, 0, err
	}
	if k.token != "" {
		r.Header.Set("X-Consul-Token", k.token)
	}
	response, err := k.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 2*maxDocument+1)) // values are in Base64
	switch {
	case err != nil:
		return nil, 0, err
	case len(body) > 2*maxDocument:
		return nil, 0, fmt.Errorf("the keys below %s have more than %d bytes", k.prefix, maxDocument)
	case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotFound:
		return nil, 0, fmt.Errorf("the agent answers %s", response.Status)
	}
	next, err = strconv.ParseUint(response.Header.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return nil, 0, errors.New("what answers is no agent of Consul: the index is missing")
	}
	if response.StatusCode == http.StatusOK { // 404: there is no key below the prefix
		err = json.Unmarshal(body, &pairs)
	}
	return pairs, next, err
}

// values returns the settings of keys. The error names the key of every fault.
func (k *kv) values(pairs []pair, known Known) (values, error) {
	found := values{common: map[string]Value{}, functions: map[string]map[string]Value{}}
	e, all := &config.Error{}, known.all()
	for _, p := range pairs {
		name := strings.TrimPrefix(p.Key, k.prefix+"/")
		if strings.HasSuffix(p.Key, "/") {
			continue // a folder
		}
		fault := func(problem string) {
			e.Violations = append(e.Violations, config.Violation{Problem: "consul " + p.Key + ": " + problem})
		}
		variables, into := all, found.common
		if rest, ok := strings.CutPrefix(name, functionsKey+"/"); ok {
			function, variable, _ := strings.Cut(rest, "/")
			if known.Functions[function] == nil {
				fault("unknown function" + meant(function, slices.Sorted(maps.Keys(known.Functions))))
				continue
			}
			variables = map[string]config.Variable{}
			for _, v := range known.Of(function) {
				variables[v.Name] = v
			}
			if found.functions[function] == nil {
				found.functions[function] = map[string]Value{}
			}
			name, into = variable, found.functions[function]
		}
		v, ok := variables[name]
		if !ok {
			fault("unknown setting" + meant(name, slices.Sorted(maps.Keys(variables))))
			continue
		}
		if err := accepts(v, p.Value); err != nil {
			fault(err.Error())
			continue
		}
		into[name] = Value{string(p.Value), "consul " + p.Key}
	}
	if len(e.Violations) > 0 {
		return values{}, e
	}
	return found, nil
}

func meant(name string, names []string) string {
	if near := editdistance.Nearest(name, names); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

// accepts reports why a text is no value of a variable.
func accepts(v config.Variable, value []byte) error {
	t := typeOf(v)
	if t.Kind() == reflect.Slice || len(value) == 0 {
		return nil
	}
	return reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText(value)
}

// awaitConsul reads the first values. It tries again while the agent does not answer, up to Config.Wait.
func (s *Sources) awaitConsul(ctx context.Context) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	for failures := 1; ; failures++ {
		pairs, index, err := s.consul.read(ctx, 0)
		if err == nil {
			s.consul.index = index
			return s.consul.values(pairs, s.cfg.Known)
		}
		if failures == 1 {
			s.cfg.Logger.Warn("Consul does not give the settings; it is asked again", "error", err)
		}
		if !blockingquery.Sleep(ctx, blockingquery.Backoff(1)) {
			return values{}, violation(ConsulVariable, fmt.Errorf("the settings cannot be read: %w", err))
		}
	}
}

// followConsul takes changes over until ctx ends. While Consul is away the last values stay.
func (s *Sources) followConsul(ctx context.Context) {
	index, failures := s.consul.index, 0
	for ctx.Err() == nil {
		begun := time.Now()
		pairs, next, err := s.consul.read(ctx, index)
		if err != nil {
			if failures++; failures == 1 && ctx.Err() == nil {
				s.cfg.Logger.Warn("Consul cannot be asked for the settings; those from before stay", "error", err)
			}
			index = 0 // the agent may be another one now
			blockingquery.Sleep(ctx, blockingquery.Backoff(failures))
			continue
		}
		if failures > 0 {
			s.cfg.Logger.Info("Consul answers again")
		}
		failures = 0
		if next != index {
			if found, err := s.consul.values(pairs, s.cfg.Known); err != nil {
				s.refuse(consulSource, err)
			} else if found.equal(s.now.Load().consul) {
				s.unchanged(consulSource)
			} else {
				s.take(consulSource, func(l *layers) { l.consul = found })
			}
		}
		index = blockingquery.Next(index, next)
		blockingquery.Sleep(ctx, blockingquery.Pace-time.Since(begun))
	}
}
