package generate

import (
	"maps"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"
)

const (
	headerRef   = "#/components/headers/"
	responseRef = "#/components/responses/"
)

// header is a header field that answers of several operations have.
type header struct {
	name        string // in components, as a reference has it
	field       string
	description string
	integer     bool
}

var (
	requestID = header{name: "RequestId", field: "X-Request-Id", description: "The id of the request: the caller's, " +
		"if it had one that can be used, or a new one. Logs and traces have it."}
	cacheControl = header{name: "CacheControl", field: "Cache-Control", description: "Whether and for how long a cache " +
		"may store the answer."}
	retryAfter = header{name: "RetryAfter", field: "Retry-After", integer: true, description: "Seconds after which the " +
		"same request may succeed."}
	rateLimit = header{name: "RateLimit", field: "RateLimit", description: "What the limits of the operation have left, " +
		"and the seconds until they have their whole quota (draft-ietf-httpapi-ratelimit-headers-11). Only where there " +
		"are limits."}
	rateLimitPolicy = header{name: "RateLimitPolicy", field: "RateLimit-Policy", description: "The limits of the " +
		"operation. Only where there are some."}
	challenge = header{name: "WWWAuthenticate", field: "WWW-Authenticate", description: "How to authenticate, and what " +
		"is wrong with the token that was sent (RFC 6750)."}
	replayed = header{name: "IdempotencyReplayed", field: "Idempotency-Replayed", description: "true: this is the " +
		"first answer for the Idempotency-Key, given again."}
	vary = header{name: "Vary", field: "Vary", description: "The header fields of the request that the answer depends " +
		"on."}
	age = header{name: "Age", field: "Age", integer: true, description: "For how many seconds the gateway has stored " +
		"the answer."}
	cacheStatus = header{name: "CacheStatus", field: "Cache-Status", description: "Whether the answer is from the " +
		"gateway's cache (RFC 9211)."}
)

func (h header) ref() object { return object{"$ref": headerRef + h.name} }

func (h header) describe() object {
	kind := "string"
	if h.integer {
		kind = "integer"
	}
	return object{"description": h.description, "schema": object{"type": kind}}
}

// failure is an answer that is a problem document.
type failure struct {
	name        string // in components
	description string
	headers     []header // besides those that all failures have
}

// failures are the failures that operations have, by their status.
var failures = map[string]failure{
	"400": {"BadRequest", "The request cannot be read: its path, query, header or body is not what HTTP, UTF-8 or JSON " +
		"allow.", nil},
	"401": {"Unauthorized", "There is no token or API key, or it is not valid. Public operations refuse invalid ones too.",
		[]header{challenge}},
	"403": {"Forbidden", "The caller may not do this.", []header{replayed}},
	"404": {"NotFound", "It does not exist, or is not the caller's.", []header{replayed}},
	"409": {"Conflict", "It contradicts the present state, was changed by another request at the same time, or the " +
		"first request with the Idempotency-Key is still being carried out.", []header{retryAfter, replayed}},
	"412": {"PreconditionFailed", "It has another version than If-Match names.", []header{replayed}},
	"413": {"ContentTooLarge", "The body is larger than the operation takes.", nil},
	"415": {"UnsupportedMediaType", "The body is not application/json in UTF-8.", nil},
	"422": {"UnprocessableContent", "The request can be read, and is wrong: `errors` says what and where. Also for an " +
		"Idempotency-Key that was used for another request.", []header{replayed}},
	"428": {"PreconditionRequired", "The operation needs If-Match.", []header{replayed}},
	"429": {"TooManyRequests", "The caller, or all callers together, send more than they may.", []header{retryAfter}},
	"500": {"InternalServerError", "A defect of the function; its log has the cause.", nil},
	"502": {"BadGateway", "The answer of the function is over the limit of the operation.", nil},
	"503": {"ServiceUnavailable", "The function, or what it depends on, is not available just now.", []header{retryAfter}},
	"504": {"GatewayTimeout", "The function has taken longer than it may.", nil},

	"default": {"Problem", "Any other failure, such as a limit that the environment of the gateway has set.",
		[]header{retryAfter}},
}

// describe returns the failure as a member of components.
func (f failure) describe() object {
	headers := object{}
	common := []header{requestID, cacheControl, rateLimit, rateLimitPolicy, age, cacheStatus}
	for _, h := range slices.Concat(common, f.headers) {
		headers[h.field] = h.ref()
	}
	return object{
		"description": f.description, "headers": headers,
		"content": object{"application/problem+json": object{"schema": object{"$ref": schemaRef + "Problem"}}},
	}
}

// problemSchema describes a problem document for systems none of whose functions does.
var problemSchema = object{
	"type": "object", "required": []any{"title", "status"},
	"properties": object{
		"type": object{"type": "string"}, "title": object{"type": "string"},
		"status": object{"type": "integer", "format": "int64"}, "detail": object{"type": "string"},
		"instance": object{"type": "string"},
	},
}

// complete adds to an operation the answers that the gateway and the kit give for it, and the header fields of all of
// its answers. Route is nil for an operation of the gateway itself.
func (m *merged) complete(operation object, route *manifest.Route) {
	responses, _ := operation["responses"].(object)
	if responses == nil {
		responses = object{}
		operation["responses"] = responses
	}
	for _, status := range common(operation, route) {
		if responses[status] == nil {
			responses[status] = object{}
		}
	}
	for status, response := range responses {
		f, shared := failures[status]
		if own := ownBody(response); shared && own != nil {
			described := f.describe() // the gateway and the kit answer with a problem, the handler with a body of its own
			maps.Copy(described["content"].(object), own)
			responses[status] = described
			continue
		}
		if shared {
			responses[status] = object{"$ref": responseRef + f.name}
			m.failures[status] = true
			continue
		}
		if described, ok := response.(object); ok {
			addHeaders(described, operation, route)
		}
	}
}

// ownBody returns the content of a failure that is no problem document; nil if there is none.
func ownBody(response any) object {
	described, _ := response.(object)
	content, _ := described["content"].(object)
	own := maps.Clone(content)
	delete(own, "application/problem+json")
	if len(own) == 0 {
		return nil
	}
	return own
}

// common returns the statuses of the failures that the gateway and the kit answer with.
func common(operation object, route *manifest.Route) []string {
	statuses := []string{"400", "413", "500", "default"}
	if route == nil && !secured(operation) {
		return statuses // a document, which is open to every request
	}
	statuses = append(statuses, "401", "503")
	if secured(operation) {
		statuses = append(statuses, "403")
	}
	if route == nil {
		return statuses
	}
	statuses = append(statuses, "504")
	if hasJSONBody(operation) {
		statuses = append(statuses, "415")
	}
	if route.Policy != nil && len(route.Policy.Rate) > 0 {
		statuses = append(statuses, "429")
	}
	if route.Policy != nil && route.Policy.MaxAnswer > 0 {
		statuses = append(statuses, "502")
	}
	return statuses
}

// addHeaders adds the header fields that the gateway and the kit set to an answer that is not a failure.
func addHeaders(response, operation object, route *manifest.Route) {
	fields, _ := response["headers"].(object)
	if fields == nil {
		fields = object{}
		response["headers"] = fields
	}
	add := func(all ...header) {
		for _, h := range all {
			if fields[h.field] == nil {
				fields[h.field] = h.ref()
			}
		}
	}
	add(requestID)
	if secured(operation) {
		add(cacheControl)
	}
	if takesKey(operation) {
		add(replayed)
	}
	if route == nil || route.Policy == nil {
		return
	}
	if len(route.Policy.Rate) > 0 {
		add(rateLimit, rateLimitPolicy)
	}
	if route.Policy.Compress {
		add(vary)
	}
	if route.Policy.Cache != nil {
		add(age, cacheStatus, vary)
	}
}

// secured reports whether the operation takes access tokens and needs one.
func secured(operation object) bool { return requires(operation, "bearer") }

// requires reports whether the operation names a security scheme.
func requires(operation object, scheme string) bool {
	security, _ := operation["security"].([]any)
	return slices.ContainsFunc(security, func(s any) bool {
		one, _ := s.(object)
		return one[scheme] != nil
	})
}

// scopeOf returns the scope that an API key needs to call the operation; "": it names none.
func scopeOf(operation object) string {
	security, _ := operation["security"].([]any)
	for _, s := range security {
		one, _ := s.(object)
		if scopes, _ := one[apiKeyScheme].([]any); len(scopes) == 1 {
			scope, _ := scopes[0].(string)
			return scope
		}
	}
	return ""
}

func takesKey(operation object) bool {
	parameters, _ := operation["parameters"].([]any)
	return slices.ContainsFunc(parameters, func(p any) bool {
		described, _ := p.(object)
		return described["name"] == "Idempotency-Key"
	})
}

func hasJSONBody(operation object) bool {
	body, _ := operation["requestBody"].(object)
	content, _ := body["content"].(object)
	return content["application/json"] != nil
}

// describeAccess adds who may call the operation to its description.
func describeAccess(operation object, route *manifest.Route) {
	who := "Needs no token."
	switch {
	case requires(operation, metricsScheme):
		who = ""
	case route != nil && route.Access == manifest.AccessRoles:
		who = "Needs a token with the role " + strings.Join(route.Roles, " or ") + "."
	case secured(operation):
		who = "Needs a token."
	}
	if scope := scopeOf(operation); scope != "" {
		who = strings.TrimSuffix(who, ".") + ", or an API key with the scope " + scope
		if route != nil && route.Access == manifest.AccessRoles {
			who += " and the role"
		}
		who += "."
	}
	text, _ := operation["description"].(string)
	operation["description"] = strings.TrimSpace(text + " " + who)
}

// components returns the headers and the responses that the operations refer to.
func (m *merged) components() (headers, responses object) {
	headers, responses = object{}, object{}
	for status := range m.failures {
		responses[failures[status].name] = failures[status].describe()
	}
	used := map[string]bool{}
	collectRefs(responses, headerRef, used)
	collectRefs(m.paths, headerRef, used)
	for _, h := range []header{
		requestID, cacheControl, retryAfter, rateLimit, rateLimitPolicy, challenge, replayed, vary, age, cacheStatus,
	} {
		if used[h.name] {
			headers[h.name] = h.describe()
		}
	}
	return headers, responses
}

// collectRefs notes the names that references with the prefix have.
func collectRefs(v any, prefix string, used map[string]bool) {
	switch v := v.(type) {
	case object:
		if ref, ok := v["$ref"].(string); ok && strings.HasPrefix(ref, prefix) {
			used[strings.TrimPrefix(ref, prefix)] = true
		}
		for _, value := range v {
			collectRefs(value, prefix, used)
		}
	case []any:
		for _, value := range v {
			collectRefs(value, prefix, used)
		}
	}
}

// undeclared are the answers that belong to no operation, for the member x-undeclared.
func undeclared() object {
	answer := func(description string, fields object) object {
		described := object{"description": description}
		if fields != nil {
			described["headers"] = fields
		}
		return described
	}
	text := object{"schema": object{"type": "string"}}
	return object{
		"everyAnswer": object{
			"description": "Header fields that every answer has, and those of HTTP itself.",
			"headers": object{
				"X-Request-Id": requestID.ref(), "X-Content-Type-Options": text, "Referrer-Policy": text,
				"X-Frame-Options": text, "Content-Security-Policy": text, "Strict-Transport-Security": text,
				"Date": text, "Content-Length": text,
			},
		},
		"crossOrigin": object{
			"description": "Header fields for scripts of the origins that EBB_CORS_ORIGINS lists.",
			"headers": object{
				"Vary": text, "Access-Control-Allow-Origin": text, "Access-Control-Expose-Headers": text,
				"Access-Control-Allow-Methods": text, "Access-Control-Allow-Headers": text, "Access-Control-Max-Age": text,
			},
		},
		"responses": object{
			"204": answer("The answer to OPTIONS: the methods of the path.", object{"Allow": text}),
			"400": answer("The request cannot be read. In plain text where it is no HTTP.", object{"Cache-Control": text}),
			"404": answer("Nothing is served at the path.", object{"Cache-Control": text}),
			"405": answer("The path has no such method.", object{"Allow": text, "Cache-Control": text}),
			"431": answer("The header is larger than 32 KiB. In plain text.", nil),
		},
	}
}
