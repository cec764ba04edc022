package function

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Access is who may call an operation. The zero Access is Authenticated.
type Access struct {
	public bool
	roles  []string
}

// Public lets anyone call. Credentials that a request has are checked all the same.
var Public = Access{public: true}

// Authenticated lets everyone call who has valid credentials.
var Authenticated = Access{}

// Only lets those call who have one of the roles.
func Only(roles ...string) Access { return Access{roles: roles} }

// allow returns nil, fault.Unauthenticated or fault.Denied.
func (a Access) allow(p auth.Principal) error {
	switch {
	case a.public:
		return nil
	case p.Anonymous():
		return fault.New(fault.Unauthenticated, "this needs a bearer token")
	case len(a.roles) > 0 && !slices.ContainsFunc(a.roles, p.Is):
		return fault.New(fault.Denied, "this needs the role %s", strings.Join(a.roles, " or "))
	}
	return nil
}

// Idempotency is how an operation treats an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07).
type Idempotency int

// With a key, the response to the first request is stored for a day and given again, marked by the header field
// Idempotency-Replayed: true. The same key with another request is 422, and while the first request is being carried
// out it is 409. The zero value is Optional for an operation that changes something and is not public, and Off for
// every other.
const (
	_ Idempotency = iota
	Optional
	Required
	Off
)

// The limits of an operation that declares none.
const (
	defaultMaxBody  = manifest.DefaultMaxBody // bytes
	defaultDeadline = manifest.DefaultDeadline
)

// Operation declares one HTTP operation.
type Operation struct {
	Method      string
	Path        string // with its /api prefix and {names}
	Summary     string
	Description string
	Tag         string // empty: the function's name
	Status      int    // of success; 0: 200
	Access      Access
	Idempotency Idempotency
	MaxBody     int64         // bytes; 0: 1 MiB
	Deadline    time.Duration // for the handler, or less when the gateway says so (Ebb-Timeout); 0: 30 seconds
	Errors      []int         // statuses of failures to document besides the usual ones
	Statuses    []int         // that the handler sets besides Status: below 300 with the same body, 304 with none
	Hidden      bool          // left out of OpenAPI
	Policy      policy.Policy // what a gateway does with the requests; an environment may change it

	// Scope is what an API key needs to call the operation. Empty: FUNCTION:read for GET, and FUNCTION:write for other
	// methods. With manifest.NoKey no key may call it. At a public operation a key needs none.
	Scope string

	// Person declares that a GET operation answers with what the function holds of a person, to the person and to admins:
	// it is the parameter, of the path or the query, that takes the person's id. The answer is a part of the person's
	// export, all pages of it; 404 means that the function holds nothing.
	Person string

	// Owner declares what callers get who ask for what belongs to another user: manifest.OwnerHidden, OwnerDenied or
	// OwnerOnly. The handler sees to it, and for admins, who may ask for all. Empty: nothing belongs to a user.
	Owner string

	// StepUp declares when the operation needs a recent proof of the caller besides the token: manifest.StepUpAlways or
	// StepUpOthers. The handler sees to it. Empty: never.
	StepUp string
}

func (op Operation) unsafe() bool { return !op.route().Safe() }

func (op Operation) takesKey() bool { return op.Idempotency == Optional || op.Idempotency == Required }

// route returns the operation as the manifest has it.
func (op Operation) route() manifest.Route {
	r := manifest.Route{Method: op.Method, Path: op.Path, Summary: op.Summary, Access: manifest.AccessAuthenticated,
		Person: op.Person, Owner: op.Owner, StepUp: op.StepUp, Scope: op.keyScope()}
	if op.MaxBody != defaultMaxBody {
		r.MaxBody = op.MaxBody
	}
	if op.Deadline != manifest.DefaultDeadline {
		r.Deadline = policy.Duration(op.Deadline)
	}
	if !op.Policy.IsZero() {
		r.Policy = &op.Policy
	}
	switch {
	case op.Access.public:
		r.Access = manifest.AccessPublic
	case len(op.Access.roles) > 0:
		r.Access, r.Roles = manifest.AccessRoles, op.Access.roles
	}
	return r
}

func (op Operation) withDefaults(function string) Operation {
	if op.Tag == "" {
		op.Tag = function
	}
	if op.Status == 0 {
		op.Status = http.StatusOK
	}
	if op.Scope == "" {
		op.Scope = function + ":read"
		if op.unsafe() {
			op.Scope = function + ":write"
		}
	}
	if op.MaxBody == 0 {
		op.MaxBody = defaultMaxBody
	}
	if op.Deadline == 0 {
		op.Deadline = defaultDeadline
	}
	if op.Idempotency == 0 {
		op.Idempotency = Off
		if op.unsafe() && !op.Access.public {
			op.Idempotency = Optional
		}
	}
	return op
}

// Option changes how an operation is served.
type Option[In, Out any] func(*served[In, Out])

// Then runs a function after the unit has committed and its events are published, outside of any transaction. It may
// replace the response. It also runs when a stored response is given again for its Idempotency-Key.
func Then[In, Out any](then func(ctx context.Context, in *In, out *Out) (*Out, error)) Option[In, Out] {
	return func(s *served[In, Out]) { s.then = then }
}

type served[In, Out any] struct {
	f      *Function
	op     Operation
	codec  codec
	handle func(context.Context, *Tx, *In) (*Out, error)
	then   func(context.Context, *In, *Out) (*Out, error)
}

// Serve declares an HTTP operation. In and Out are input and output structs as Huma has them: path, query and header
// tags, a Body; Out may have a Status. Input is validated before the handler runs.
func Serve[In, Out any](
	f *Function, op Operation, h func(ctx context.Context, tx *Tx, in *In) (*Out, error), options ...Option[In, Out],
) {
	op = op.withDefaults(f.name)
	if op.Person != "" && op.Method != http.MethodGet {
		panic("function " + f.name + ": " + op.Method + " " + op.Path + " cannot answer with what is held of a person")
	}
	s := &served[In, Out]{f: f, op: op, codec: codecOf(reflect.TypeFor[Out]()), handle: h}
	for _, o := range options {
		o(s)
	}
	firstForStaff := op.forStaff() && !f.audits()
	f.routes = append(f.routes, route{op.route(), op})
	huma.Register(f.api, f.describe(op, s.codec), func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
		a, err := s.run(ctx, in)
		if err != nil {
			return &huma.StreamResponse{Body: writeProblem(err)}, nil
		}
		return &huma.StreamResponse{Body: a.write}, nil
	})
	if firstForStaff {
		f.serveAudit()
		f.serveSettings()
	}
}

func (s *served[In, Out]) run(ctx context.Context, in *In) (response, error) {
	decide := func(ctx context.Context, tx *Tx) (response, error) {
		out, err := s.handle(ctx, tx, in)
		if err != nil {
			return response{}, err
		}
		return s.codec.encode(reflect.ValueOf(out), s.op.Status)
	}
	a, err := s.f.serve(ctx, s.op, decide)
	if err != nil || s.then == nil || a.Refused {
		return a, err
	}
	var out Out
	if err := s.codec.decode(a, reflect.ValueOf(&out)); err != nil {
		return response{}, err
	}
	final, err := s.then(ctx, in, &out)
	if err != nil {
		return response{}, committedError{err}
	}
	replaced, err := s.codec.encode(reflect.ValueOf(final), a.Status)
	replaced.replayed = a.replayed
	return replaced, err
}

// describe returns the operation as Huma and OpenAPI have it.
func (f *Function) describe(op Operation, c codec) huma.Operation {
	h := huma.Operation{
		OperationID: operationID(op), Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description,
		Tags: []string{op.Tag}, MaxBodyBytes: op.MaxBody, Hidden: op.Hidden, DefaultStatus: op.Status,
		RejectUnknownQueryParameters: true,
		// The body has been read by then. Without a limit Huma copies it in one piece. Huma's deadline of 5 s would stay on
		// the connection, and end whatever takes longer.
		BodyReadTimeout: -1,
	}
	if op.unsafe() {
		h.MaxBodyBytes = -1
	}
	if !op.Access.public {
		h.Security = []map[string][]string{{"bearer": {}}}
		if scope := op.keyScope(); scope != "" {
			h.Security = append(h.Security, map[string][]string{"apiKey": {scope}})
		}
	}
	if op.takesKey() {
		h.Parameters = append(h.Parameters, &huma.Param{
			Name: "Idempotency-Key", In: "header", Required: op.Idempotency == Required,
			Description: "The first response for this key is stored for a day and given again. While the first request " +
				"is being carried out, the same key is 409; with another request it is 422.",
			Schema: &huma.Schema{Type: huma.TypeString, MinLength: ptr(1), MaxLength: ptr(maxKey)},
		})
	}
	schemas := f.api.OpenAPI().Components.Schemas
	h.Responses = op.failures(schemas)
	for _, status := range append([]int{op.Status}, op.Statuses...) {
		h.Responses[strconv.Itoa(status)] = c.describe(schemas, op, status)
	}
	return h
}

// failures returns the responses that are not a success: problem documents. Those that a request can have whatever the
// operation does are added by package generate.
func (op Operation) failures(schemas huma.Registry) map[string]*huma.Response {
	statuses := append(slices.Clone(op.Errors), http.StatusUnprocessableEntity, http.StatusInternalServerError)
	if !op.Access.public {
		statuses = append(statuses, http.StatusUnauthorized, http.StatusForbidden)
	}
	if strings.Contains(op.Path, "{") {
		statuses = append(statuses, http.StatusNotFound)
	}
	if op.unsafe() { // of units that change the same documents one may lose every race
		statuses = append(statuses, http.StatusConflict)
	}
	content := map[string]*huma.MediaType{
		problem.ContentType: {Schema: schemas.Schema(reflect.TypeFor[problem.Problem](), true, "Problem")},
	}
	responses := map[string]*huma.Response{}
	for _, status := range statuses {
		responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: content}
	}
	return responses
}

func ptr[T any](v T) *T { return &v }

func operationID(op Operation) string {
	path := strings.NewReplacer("/api/", "", "{", "", "}", "", "/", "-", ".", "").Replace(op.Path)
	return strings.ToLower(op.Method) + "-" + strings.Trim(path, "-")
}
