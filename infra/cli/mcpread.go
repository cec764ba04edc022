package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/saga"
)

// The pages of lists for an agent.
const (
	defaultPage = 20
	largestPage = 100
)

// addReading adds the tools that read from the system.
func (s *toolServer) addReading() {
	addTool(s, reading("topology", "Topology",
		"Every function of the system with the operations that it serves and the event types that it consumes and emits."),
		func(ctx context.Context, _ struct{}) (any, error) { return s.topology(ctx) })
	addTool(s, reading("operations", "Operations",
		"The operations of the system: id, method, path, summary, function and access."), s.operations)
	addTool(s, reading("operation", "Operation",
		"One operation as OpenAPI describes it, with the schemas that it refers to."), s.operation)
	addTool(s, reading("read_operation", "Call an operation that reads",
		"Call an operation with the method GET by its id, as the signed-in user, and return its answer."), s.readOperation)
	addTool(s, reading("event_types", "Event types",
		"The event types of the system with their summaries, and which functions emit and consume them."), s.eventTypes)
	addTool(s, reading("event_type", "Event type", "One event type with its JSON schema and examples."), s.eventType)
	addTool(s, reading("events", "Events",
		"Events of the archive, the newest first unless order is asc."), s.events)
	addTool(s, reading("event", "Event", "One event of the archive by its id or its position."), s.event)
	addTool(s, reading("causality", "Causality",
		"Which event caused which, by the id of an event, a correlation, or an entity such as an order."), s.causality)
	addTool(s, reading("sagas", "Sagas", "Sagas with their state, those that are stuck or open first."), s.sagas)
	addTool(s, reading("saga", "Saga", "One saga with its steps, those to come included."), s.saga)
	addTool(s, reading("dead_letters", "Dead letters",
		"Events that a function failed to handle, the newest first."), s.deadLetters)
	addTool(s, reading("dead_letter", "Dead letter", "One dead letter with its event and the reason."), s.deadLetter)
}

// element returns an id for one element of a path. It refuses what would lead to another path.
func element(what, id string) (string, error) {
	if id == "" || id == "." || id == ".." || len(id) > 200 {
		return "", fmt.Errorf("invalid %s %q: want its id", what, id[:min(len(id), 50)])
	}
	return url.PathEscape(id), nil
}

// one returns the JSON of an item below a path.
func (s *toolServer) one(ctx context.Context, what, prefix, id string) (any, error) {
	id, err := element(what, id)
	if err != nil {
		return nil, err
	}
	return s.get(ctx, prefix+id)
}

// pageInput selects a page of a list.
type pageInput struct {
	Limit  int    `json:"limit,omitempty" jsonschema:"the most items of the page: 1 to 100, 20 unless it is given"`
	Cursor string `json:"cursor,omitempty" jsonschema:"the next of the page before"`
}

// list returns a page of a list. It asks for fewer items when they are too large together.
func (s *toolServer) list(ctx context.Context, path string, p pageInput, query url.Values) (any, error) {
	if p.Limit < 0 || p.Limit > largestPage {
		return nil, fmt.Errorf("invalid limit %d: want 1 to %d", p.Limit, largestPage)
	}
	for name, values := range query {
		if values[0] == "" {
			query.Del(name)
		}
	}
	if p.Cursor != "" {
		query.Set("cursor", p.Cursor)
	}
	for limit := cmp.Or(p.Limit, defaultPage); ; limit /= 2 {
		query.Set("limit", strconv.Itoa(limit))
		raw, err := s.get(ctx, path+"?"+query.Encode())
		if err != nil || limit == 1 || len(raw) <= maxResult/2 {
			return raw, err
		}
	}
}

// channel is an event type of AsyncAPI.
type channel struct {
	Type     string   `json:"type"`
	Summary  string   `json:"summary,omitempty"`
	Emits    []string `json:"emitted_by,omitempty"`
	Consumes []string `json:"consumed_by,omitempty"`

	key string
}

// asyncAPI is the part of AsyncAPI that the tools read.
type asyncAPIDocument struct {
	Channels map[string]struct {
		Address string `json:"address"`
		Summary string `json:"description"`
	} `json:"channels"`
	Operations map[string]struct {
		Action  string `json:"action"`
		Channel struct {
			Ref string `json:"$ref"`
		} `json:"channel"`
		Tags []struct{ Name string } `json:"tags"`
	} `json:"operations"`
	Components struct {
		Messages map[string]json.RawMessage `json:"messages"`
		Schemas  map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

func (s *toolServer) asyncAPI(ctx context.Context) (doc asyncAPIDocument, err error) {
	err = s.use(func(c *client) error { return c.send(ctx, http.MethodGet, "/asyncapi.json", nil, &doc) })
	return doc, err
}

// channels returns the event types, sorted.
func (d asyncAPIDocument) channels() []channel {
	byKey := map[string]*channel{}
	for key, c := range d.Channels {
		byKey[key] = &channel{Type: c.Address, Summary: c.Summary, key: key}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Operations)) {
		op := d.Operations[name]
		c := byKey[op.Channel.Ref[strings.LastIndexByte(op.Channel.Ref, '/')+1:]]
		if c == nil || len(op.Tags) == 0 {
			continue
		}
		if op.Action == "send" {
			c.Emits = append(c.Emits, op.Tags[0].Name)
		} else {
			c.Consumes = append(c.Consumes, op.Tags[0].Name)
		}
	}
	all := make([]channel, 0, len(byKey))
	for _, c := range byKey {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b channel) int { return strings.Compare(a.Type, b.Type) })
	return all
}

// topologyFunction is a function as the topology shows it.
type topologyFunction struct {
	Serves   []string `json:"serves,omitempty"`
	Consumes []string `json:"consumes,omitempty"`
	Emits    []string `json:"emits,omitempty"`
}

func (s *toolServer) topology(ctx context.Context) (any, error) {
	functions := map[string]*topologyFunction{}
	of := func(name string) *topologyFunction {
		if functions[name] == nil {
			functions[name] = &topologyFunction{}
		}
		return functions[name]
	}
	doc, err := s.asyncAPI(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range doc.channels() {
		for _, name := range c.Emits {
			of(name).Emits = append(of(name).Emits, c.Type)
		}
		for _, name := range c.Consumes {
			of(name).Consumes = append(of(name).Consumes, c.Type)
		}
	}
	err = s.use(func(c *client) error {
		all, err := c.operations(ctx)
		for _, op := range all {
			name := s.owner(op)
			of(name).Serves = append(of(name).Serves, op.Method+" "+op.Path)
		}
		return err
	})
	return map[string]any{"functions": functions}, err
}

// route returns what this build declares of an operation.
func (s *toolServer) route(op operation) (r ownedRoute, known bool) {
	i := slices.IndexFunc(s.routes, func(r ownedRoute) bool { return r.Method == op.Method && r.Path == op.Path })
	if i < 0 {
		return r, false
	}
	return s.routes[i], true
}

// owner returns the function that serves an operation; its tag when this build does not know.
func (s *toolServer) owner(op operation) string {
	if r, known := s.route(op); known {
		return r.function
	}
	return strings.Join(op.Tags, ",")
}

type searchInput struct {
	Containing string `json:"containing,omitempty" jsonschema:"only those whose name or summary contains this text"`
}

func (i searchInput) matches(texts ...string) bool {
	return strings.Contains(strings.ToLower(strings.Join(texts, " ")), strings.ToLower(i.Containing))
}

func (s *toolServer) operations(ctx context.Context, in searchInput) (any, error) {
	type listed struct {
		ID       string `json:"operation"`
		Method   string `json:"method"`
		Path     string `json:"path"`
		Summary  string `json:"summary,omitempty"`
		Function string `json:"function,omitempty"`
		Access   string `json:"access"`
	}
	found := []listed{}
	err := s.use(func(c *client) error {
		all, err := c.operations(ctx)
		for _, op := range all {
			l := listed{op.ID, op.Method, op.Path, op.Summary, s.owner(op), s.access(op)}
			if in.matches(op.ID, op.Method, op.Path, op.Summary, l.Function) {
				found = append(found, l)
			}
		}
		return err
	})
	return map[string]any{"operations": found}, err
}

// access tells who may call an operation, as far as this build knows.
func (s *toolServer) access(op operation) string {
	if r, known := s.route(op); known {
		return whoMay(r.Route)
	}
	if op.Public {
		return "public"
	}
	return "token"
}

type operationInput struct {
	Operation string `json:"operation" jsonschema:"the id, as the tool operations lists it"`
}

func (s *toolServer) operation(ctx context.Context, in operationInput) (any, error) {
	var doc struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components map[string]map[string]json.RawMessage `json:"components"`
	}
	var op operation
	err := s.use(func(c *client) (err error) {
		if op, err = c.operation(ctx, in.Operation); err == nil {
			err = c.send(ctx, http.MethodGet, "/openapi.json", nil, &doc)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	described := doc.Paths[op.Path][strings.ToLower(op.Method)]
	find := func(ref string) json.RawMessage {
		parts := strings.Split(strings.TrimPrefix(ref, "#/components/"), "/")
		if len(parts) != 2 || parts[0] != "schemas" && parts[0] != "parameters" && parts[0] != "requestBodies" {
			return nil // the responses and headers that all operations have
		}
		return doc.Components[parts[0]][parts[1]]
	}
	return map[string]any{"method": op.Method, "path": op.Path, "access": s.access(op), "operation": described,
		"components": referred(described, find)}, nil
}

// referred returns what the JSON refers to by $ref, directly and through others.
func referred(raw json.RawMessage, find func(ref string) json.RawMessage) map[string]json.RawMessage {
	found := map[string]json.RawMessage{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				visit(item)
			}
		case map[string]any:
			for _, member := range v {
				visit(member)
			}
			ref, _ := v["$ref"].(string)
			if _, seen := found[ref]; ref == "" || seen {
				return
			}
			if target := find(ref); target != nil {
				found[ref] = target
				var tree any
				if json.Unmarshal(target, &tree) == nil {
					visit(tree)
				}
			}
		}
	}
	var tree any
	if json.Unmarshal(raw, &tree) == nil {
		visit(tree)
	}
	return found
}

// callInput names an operation and its parameters.
type callInput struct {
	Operation string            `json:"operation" jsonschema:"the id, as the tool operations lists it"`
	Path      map[string]string `json:"path,omitempty" jsonschema:"the parameters of the path"`
	Query     map[string]string `json:"query,omitempty" jsonschema:"the parameters of the query"`
}

// target returns the operation and its path with the parameters.
func (in callInput) target(ctx context.Context, c *client) (op operation, target string, err error) {
	if op, err = c.operation(ctx, in.Operation); err != nil {
		return op, "", err
	}
	pairs := func(values map[string]string) (all []string) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			all = append(all, name+"="+values[name])
		}
		return all
	}
	for name, value := range in.Path {
		if _, err := element(name, value); err != nil {
			return op, "", err
		}
	}
	target, err = op.target(pairs(in.Path), pairs(in.Query))
	return op, target, err
}

func (s *toolServer) readOperation(ctx context.Context, in callInput) (any, error) {
	var raw json.RawMessage
	err := s.use(func(c *client) error {
		op, target, err := in.target(ctx, c)
		switch {
		case err != nil:
			return err
		case op.Method != http.MethodGet:
			return fmt.Errorf("%s has the method %s: this tool calls operations that read", op.ID, op.Method)
		}
		raw, err = s.perform(ctx, c, op, target, http.Header{}, nil)
		return err
	})
	return raw, err
}

// perform calls an operation, as the signed-in user unless it is public, and returns the body of its answer: JSON, or
// another text as a string of JSON.
func (s *toolServer) perform(
	ctx context.Context, c *client, op operation, target string, header http.Header, body []byte,
) (json.RawMessage, error) {
	var a response
	do := func() (err error) {
		if a, err = c.do(ctx, op.Method, target, header, body); err == nil && a.status >= 300 {
			err = a.failure(op.Method, target)
		}
		return err
	}
	var err error
	if op.Public {
		err = do()
	} else {
		err = c.withToken(ctx, do)
	}
	switch {
	case err != nil:
		return nil, err
	case len(a.body) == 0:
		return json.Marshal(map[string]int{"status": a.status})
	case json.Valid(a.body):
		return a.body, nil
	}
	return json.Marshal(strings.ToValidUTF8(string(a.body), "\ufffd"))
}

func (s *toolServer) eventTypes(ctx context.Context, in searchInput) (any, error) {
	doc, err := s.asyncAPI(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(doc.channels(), func(c channel) bool { return !in.matches(c.Type, c.Summary) })
	return map[string]any{"event_types": all}, nil
}

type typeInput struct {
	Type string `json:"type" jsonschema:"the event type: its full name, or the end of it such as users.registered"`
}

func (s *toolServer) eventType(ctx context.Context, in typeInput) (any, error) {
	doc, err := s.asyncAPI(ctx)
	if err != nil {
		return nil, err
	}
	all := doc.channels()
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Type
	}
	name, err := resolveType(names, in.Type)
	if err != nil {
		return nil, err
	}
	found := all[slices.Index(names, name)]
	message := doc.Components.Messages[found.key]
	schemas := referred(message, func(ref string) json.RawMessage {
		return doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
	})
	return map[string]any{"event_type": found, "message": message, "schemas": schemas}, nil
}

type eventsInput struct {
	Type        string `json:"type,omitempty" jsonschema:"its full name, or the end of it such as users.registered"`
	Subject     string `json:"subject,omitempty" jsonschema:"only about this entity, such as the id of an order"`
	Correlation string `json:"correlation,omitempty" jsonschema:"only of this correlation"`
	Since       string `json:"since,omitempty" jsonschema:"only from this time on: RFC 3339, or how long ago, such as 10m"`
	Until       string `json:"until,omitempty" jsonschema:"only before this time"`
	Order       string `json:"order,omitempty" jsonschema:"desc (the newest first) or asc"`
	pageInput
}

func (s *toolServer) events(ctx context.Context, in eventsInput) (any, error) {
	query := url.Values{"subject": {in.Subject}, "correlation": {in.Correlation}, "order": {cmp.Or(in.Order, "desc")}}
	for name, text := range map[string]string{"since": in.Since, "until": in.Until} {
		var at string
		if text == "" {
			continue
		}
		if err := (timeValue{&at}).Set(text); err != nil {
			return nil, fmt.Errorf("invalid %s %q: %w", name, text, err)
		}
		query.Set(name, at)
	}
	if in.Type != "" {
		err := s.use(func(c *client) error {
			name, err := c.typeName(ctx, in.Type)
			query.Set("type", name)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return s.list(ctx, "/api/archive/events", in.pageInput, query)
}

type idInput struct {
	ID string `json:"id" jsonschema:"the id"`
}

func (s *toolServer) event(ctx context.Context, in idInput) (any, error) {
	return s.one(ctx, "event", "/api/archive/events/", in.ID)
}

func (s *toolServer) causality(ctx context.Context, in idInput) (any, error) {
	return s.one(ctx, "event", "/api/archive/causality/", in.ID)
}

type sagasInput struct {
	Saga   string `json:"saga,omitempty" jsonschema:"only sagas of this name, such as order"`
	Status string `json:"status,omitempty" jsonschema:"open (default), running, undoing, stuck, completed, undone"`
	pageInput
}

func (s *toolServer) sagas(ctx context.Context, in sagasInput) (any, error) {
	var paths []string
	err := s.use(func(c *client) (err error) {
		paths, err = c.lists(ctx, "saga", saga.PathPrefix, in.Saga)
		return err
	})
	if err != nil {
		return nil, err
	}
	if in.Cursor != "" && len(paths) > 1 {
		return nil, fmt.Errorf("a cursor belongs to the sagas of one name: name one of %s", strings.Join(paths, ", "))
	}
	all := map[string]any{}
	for _, path := range paths {
		page, err := s.list(ctx, path, in.pageInput, url.Values{"status": {cmp.Or(in.Status, "open")}})
		if err != nil {
			return nil, err
		}
		all[strings.TrimPrefix(path, saga.PathPrefix)] = page
	}
	return map[string]any{"sagas": all}, nil
}

type sagaInput struct {
	Saga string `json:"saga,omitempty" jsonschema:"the name of the saga, such as order; without it each is asked"`
	ID   string `json:"id" jsonschema:"the id of the saga, which is that of its entity"`
}

func (s *toolServer) saga(ctx context.Context, in sagaInput) (any, error) {
	_, raw, err := s.findSaga(ctx, in)
	return raw, err
}

// findSaga returns the path of a saga, and the saga.
func (s *toolServer) findSaga(ctx context.Context, in sagaInput) (path string, raw json.RawMessage, err error) {
	id, err := element("saga", in.ID)
	if err != nil {
		return "", nil, err
	}
	err = s.use(func(c *client) error {
		paths, err := c.lists(ctx, "saga", saga.PathPrefix, in.Saga)
		if err == nil {
			path, raw, err = c.first(ctx, paths, id)
		}
		if err == nil && path == "" {
			err = fmt.Errorf("there is no saga %s", in.ID)
		}
		return err
	})
	return path, raw, err
}

type deadLettersInput struct {
	State string `json:"state,omitempty" jsonschema:"waiting (unless it is given) or replayed"`
	pageInput
}

func (s *toolServer) deadLetters(ctx context.Context, in deadLettersInput) (any, error) {
	states := []string{"waiting", "replayed"}
	state := cmp.Or(in.State, states[0])
	if !slices.Contains(states, state) {
		return nil, fmt.Errorf("unknown state %q (use %s)", state, strings.Join(states, ", "))
	}
	return s.list(ctx, deadLettersPath, in.pageInput, url.Values{"state": {state}})
}

func (s *toolServer) deadLetter(ctx context.Context, in idInput) (any, error) {
	return s.one(ctx, "dead letter", deadLettersPath+"/", in.ID)
}
