package flags

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/flag"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

var (
	evaluateFlag = function.Operation{
		Method: http.MethodPost, Path: "/ofrep/v1/evaluate/flags/{key}", Tag: "ofrep", Idempotency: function.Off,
		Scope:       "flags:evaluate",
		Summary:     "Evaluate a flag",
		Description: "By OFREP 0.3.0. Without a value the caller takes its own default: the flag has none, or is disabled.",
		Statuses:    []int{http.StatusBadRequest, http.StatusNotFound},
	}
	evaluateFlags = function.Operation{
		Method: http.MethodPost, Path: "/ofrep/v1/evaluate/flags", Tag: "ofrep", Idempotency: function.Off,
		Scope:   "flags:evaluate",
		Summary: "Evaluate all flags",
		Description: "By OFREP 0.3.0. The ETag stands for the answer: with If-None-Match it is 304 while no flag has " +
			"another value for the context.",
		Statuses: []int{http.StatusBadRequest, http.StatusNotModified},
	}
)

// evaluation is what is evaluated by: the body of both operations.
type evaluation struct {
	Context json.RawMessage `json:"context,omitempty" doc:"An object. Its member targetingKey names whom the flags are evaluated for."`
}

// parsed returns the members of the context. The second result is what is wrong with it.
func (e evaluation) parsed() (map[string]any, *Evaluated) {
	context := map[string]any{}
	if len(e.Context) == 0 || bytes.Equal(e.Context, []byte("null")) {
		return context, nil
	}
	invalid := &Evaluated{ErrorCode: flag.CodeInvalidContext}
	if err := json.Unmarshal(e.Context, &context); err != nil {
		invalid.ErrorDetails = "invalid context: want an object"
		return nil, invalid
	}
	if key, has := context["targetingKey"]; has {
		if _, ok := key.(string); !ok {
			invalid.ErrorDetails = "invalid targetingKey: want a string"
			return nil, invalid
		}
	}
	return context, nil
}

// Evaluated is the value of a flag for a context, or what was wrong.
type Evaluated struct {
	Key          string         `json:"key,omitempty"`
	Value        any            `json:"value,omitempty" doc:"None: the caller takes its own default."`
	Variant      string         `json:"variant,omitempty"`
	Reason       string         `json:"reason,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	ErrorCode    string         `json:"errorCode,omitempty"`
	ErrorDetails string         `json:"errorDetails,omitempty"`
}

func evaluated(key string, r flag.Result) Evaluated {
	e := Evaluated{Key: key, Value: r.Value, Variant: r.Variant, Reason: r.Reason, Metadata: r.Metadata}
	if r.Code != "" {
		e.Reason, e.ErrorCode, e.ErrorDetails = "", r.Code, r.Message
	}
	return e
}

// MarshalJSON writes a value also when it is false, 0 or empty.
func (e Evaluated) MarshalJSON() ([]byte, error) {
	type plain Evaluated
	if e.Variant == "" {
		e.Value = nil
		return json.Marshal(plain(e))
	}
	return json.Marshal(struct {
		plain
		Value any `json:"value"`
	}{plain(e), e.Value})
}

type evaluateInput struct {
	Key  string `path:"key" maxLength:"128" doc:"The flag's key."`
	Body evaluation
}

type evaluateOutput struct {
	Status int
	Body   Evaluated
}

func (s *flags) evaluate(ctx context.Context, tx *function.Tx, in *evaluateInput) (*evaluateOutput, error) {
	context, invalid := in.Body.parsed()
	if invalid != nil {
		invalid.Key = in.Key
		return &evaluateOutput{http.StatusBadRequest, *invalid}, nil
	}
	f, version, err := s.find(ctx, tx, in.Key)
	if fault.Is(err, fault.NotFound) {
		return &evaluateOutput{http.StatusNotFound, evaluated(in.Key, flag.NotFound(in.Key))}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &evaluateOutput{Body: evaluated(in.Key, s.parsed.evaluate(in.Key, version, f, context, tx.Now()))}
	if out.Body.ErrorCode != "" {
		out.Status = http.StatusBadRequest
	}
	return out, nil
}

type bulkInput struct {
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that the caller has; 304 if one is that of the answer."`
	Body        evaluation
}

type bulkOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   struct {
		Flags        []Evaluated `json:"flags,omitzero"`
		ErrorCode    string      `json:"errorCode,omitempty"`
		ErrorDetails string      `json:"errorDetails,omitempty"`
	}
}

func (s *flags) evaluateAll(ctx context.Context, tx *function.Tx, in *bulkInput) (*bulkOutput, error) {
	out := &bulkOutput{}
	context, invalid := in.Body.parsed()
	if invalid != nil {
		out.Status = http.StatusBadRequest
		out.Body.ErrorCode, out.Body.ErrorDetails = invalid.ErrorCode, invalid.ErrorDetails
		return out, nil
	}
	all, err := s.all(ctx, tx)
	if err != nil {
		return nil, err
	}
	out.Body.Flags = []Evaluated{}
	for _, item := range all {
		r := s.parsed.evaluate(item.ID, item.Version, item.Value, context, tx.Now())
		out.Body.Flags = append(out.Body.Flags, evaluated(item.ID, r))
	}
	body, err := json.Marshal(out.Body)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode the evaluated flags")
	}
	sum := sha256.Sum256(body)
	out.ETag = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	if httprequest.NoneMatch(in.IfNoneMatch, out.ETag) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

// parsed holds the definitions that were evaluated before, one for each key. It may be used concurrently.
type parsed struct {
	mu  sync.Mutex
	all map[string]versioned
}

type versioned struct {
	version int64
	flag    *flag.Flag
	err     error
}

// evaluate returns the value of a version of a flag.
func (p *parsed) evaluate(
	key string, version int64, f stored, context map[string]any, now time.Time,
) flag.Result {
	p.mu.Lock()
	v, ok := p.all[key]
	if !ok || v.version != version {
		v = versioned{version: version}
		v.flag, v.err = flag.Parse(f.Definition)
		if len(p.all) >= 2*maxFlags || p.all == nil { // keys of removed flags do not add up
			p.all = map[string]versioned{}
		}
		p.all[key] = v
	}
	p.mu.Unlock()
	if v.err != nil { // another version of the kit has written it
		return flag.Result{Reason: flag.ReasonError, Code: flag.CodeParseError, Message: fault.Public(v.err)}
	}
	return v.flag.Evaluate(key, context, now)
}
