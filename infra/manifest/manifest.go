// Package manifest describes functions as data: routes, event types, collections, triggers and settings. Gateways,
// generators and consoles read it, from a running function, from a file or from another process.
package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/policy"
)

// Function is everything that one function declares. Triggers, network policies, routes, OpenAPI, AsyncAPI and
// Terraform's input are derived from it.
type Function struct {
	Name        string       `json:"name"`
	Routes      []Route      `json:"routes,omitempty"`
	Consumes    []string     `json:"hears,omitempty"` // event types, sorted; "*" is every type
	Prewarm     []string     `json:"wakes,omitempty"` // event types that only start it, sorted
	Emits       []string     `json:"says,omitempty"`  // event types, sorted
	Collections []Collection `json:"collections,omitempty"`
	Trigger     *Trigger     `json:"trigger,omitempty"`
	Settings    []Setting    `json:"settings,omitempty"`
	Schedules   []Schedule   `json:"schedules,omitempty"`    // in the order of their declaration
	Calls       []Call       `json:"calls,omitempty"`        // of services outside of the system, in the same order
	Ticks       bool         `json:"ticks,omitempty"`        // is called when the host's clock ticks
	DeadLetters bool         `json:"dead_letters,omitempty"` // takes the dead letters of every trigger
	Gateway     bool         `json:"front,omitempty"`        // serves the outside
	Services    []Service    `json:"services,omitempty"`     // by which its operations are called as RPC
}

// Route is one HTTP operation.
type Route struct {
	Method  string   `json:"method"`
	Path    string   `json:"path"`
	Summary string   `json:"summary,omitempty"`
	Access  string   `json:"access"` // AccessPublic, AccessAuthenticated or AccessRoles
	Roles   []string `json:"roles,omitempty"`
	MaxBody int64    `json:"max_body,omitempty"` // bytes; 0: DefaultMaxBody

	// Scope is what an API key needs to call the operation, FUNCTION:read or FUNCTION:write unless it is declared. Empty:
	// no key may call it, or anyone may, as it is public.
	Scope string `json:"scope,omitempty"`

	// Deadline is how long the handler may take, unless a gateway gives it less; 0: DefaultDeadline.
	Deadline policy.Duration `json:"deadline,omitempty"`

	// Person is the parameter, of the path or the query, that takes the id of a person: the answer is what the function
	// holds of the person, and a part of the person's export. Empty: it is none.
	Person string `json:"person,omitempty"`

	// Owner is what callers get who ask for what belongs to another user: OwnerHidden, OwnerDenied or OwnerOnly. Empty:
	// nothing belongs to a user. Admins may ask for all.
	Owner string `json:"owner,omitempty"`

	// StepUp is when the operation needs a recent proof of the caller besides the token: StepUpAlways or StepUpOthers.
	// Empty: never.
	StepUp string `json:"step_up,omitempty"`

	// Policy is what a gateway does with the requests. Nil asks for nothing.
	Policy *policy.Policy `json:"policy,omitempty"`
}

// Who may call an operation.
const (
	AccessPublic        = "public"        // anyone
	AccessAuthenticated = "authenticated" // anyone with a valid token
	AccessRoles         = "roles"         // anyone with one of the route's roles
)

// What callers get who ask for what belongs to another user.
const (
	OwnerHidden = "hidden" // 404, as if it did not exist
	OwnerDenied = "denied" // 403
	OwnerOnly   = "only"   // the operation is about what belongs to the caller, and cannot be asked for more
)

// When an operation needs a recent proof of the caller besides the token, which may be stolen.
const (
	StepUpAlways = "always"
	StepUpOthers = "others" // for what belongs to another user
)

// NoKey is declared in place of a scope by an operation that no API key may call.
const NoKey = "none"

// DefaultMaxBody is the largest body of a request, in bytes, unless the operation declares another limit.
const DefaultMaxBody = 1 << 20

// DefaultDeadline is how long a handler may take, unless the operation declares another deadline.
const DefaultDeadline = 30 * time.Second

// Safe reports whether the operation only reads (RFC 9110, section 9.2.1).
func (r Route) Safe() bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// Setting is an environment variable that configures the function.
type Setting struct {
	Variable    string `json:"variable"`
	Description string `json:"description,omitempty"`
	Default     string `json:"default,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Secret      bool   `json:"secret,omitempty"`
	Type        string `json:"-"` // of the Go field: string, int, bool, time.Duration, []string
	Reload      bool   `json:"-"` // a changed value counts without a restart
}

// Variables returns settings as the variables that package config tells the values of.
func Variables(settings []Setting) []config.Variable {
	all := make([]config.Variable, len(settings))
	for i, s := range settings {
		all[i] = config.Variable{
			Name: s.Variable, Type: s.Type, Default: s.Default, Desc: s.Description, Required: s.Required, Secret: s.Secret,
			Reload: s.Reload,
		}
	}
	return all
}

// Schedule is a recurring schedule of the function; see package cron.
type Schedule struct {
	Name       string `json:"name"`
	Expression string `json:"cron"`      // minute, hour, day of the month, month, day of the week
	Zone       string `json:"time_zone"` // IANA name
	Missed     string `json:"missed"`    // what happens to missed runs: once, skip or all
	Limit      int    `json:"limit,omitempty"`
}

// Call is an outside call of the function; see package outside. Durations are written as Go does: 30s.
type Call struct {
	Name     string `json:"name"`
	Deadline string `json:"deadline"` // of one attempt
	GiveUp   string `json:"give_up"`  // how long after its start a call that fails is given up; 0s: never
}

// Service is an RPC service (gRPC, gRPC-Web, Connect) whose calls are operations of the function; see package rpc.
type Service struct {
	Name   string `json:"name"` // with its package: ebb.orders.v1.OrderService
	Schema []byte `json:"-"`    // a FileDescriptorSet with the file of the service
}

// Collection is one collection of the function's database.
type Collection struct {
	Name     string     `json:"name"`
	Indexes  [][]string `json:"indexes,omitempty"`
	Revision int        `json:"revision,omitempty"` // how many migrations its documents have been through
}

// Trigger is the function's durable subscription. Durations are written as Go does: 30s.
type Trigger struct {
	Filters     []broker.Filter `json:"filters,omitempty"`
	Batch       int             `json:"batch"`
	Concurrency int             `json:"concurrency"`
	Retry       int             `json:"retry"`
	Backoff     string          `json:"backoff"`
	Delay       string          `json:"delay"`
	Timeout     string          `json:"timeout"`
	Patience    string          `json:"patience,omitempty"` // see broker.Delivery; platforms have none
	Rate        float64         `json:"rate,omitempty"`     // events a second; platforms have none
}

// Hash returns 16 hexadecimal digits of the SHA-256 of the manifest's JSON. A function compares it with the hash that
// it was deployed with, so that an image that runs with the triggers of another version is found.
func (f Function) Hash() string {
	data, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings, numbers and lists of them always marshal
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}
