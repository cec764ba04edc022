package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/saga"
)

// actingTool is a tool that changes the system. It is offered to a token that may call one of the operations with the
// method whose path has the prefix and the suffix.
type actingTool struct {
	*mcp.Tool
	method, prefix, suffix string
	add                    func(*mcp.Tool)
}

// adding returns a function that adds a tool, which does this.
func adding[In any](s *toolServer, do func(ctx context.Context, in In) (any, error)) func(*mcp.Tool) {
	return func(t *mcp.Tool) { addTool(s, t, do) }
}

// acting returns the tools that change the system.
func (s *toolServer) acting() []actingTool {
	return []actingTool{
		{changing("replay_dead_letter", "Replay a dead letter",
			"Deliver a dead letter again to the function that failed, with its side effects."),
			http.MethodPost, deadLettersPath + "/", "/replay", adding(s, s.replay)},
		{changing("drop_dead_letter", "Drop a dead letter",
			"Remove a dead letter for good. Its event stays in the archive."),
			http.MethodDelete, deadLettersPath + "/", "", adding(s, s.drop)},
		{changing("retry_saga", "Retry a saga", "Send the commands of a saga that are not answered again."),
			http.MethodPost, saga.PathPrefix, "/retry", adding(s, s.retrySaga)},
		{changing("skip_saga_step", "Skip a step of a saga",
			"Take a step of a saga for done, or for undone, without an answer."),
			http.MethodPost, saga.PathPrefix, "/skip", adding(s, s.skip)},
		{changing("cancel_saga", "Cancel a saga", "Undo what a saga has done."),
			http.MethodPost, saga.PathPrefix, "/cancel", adding(s, s.cancel)},
		{changing("retry_outside_call", "Retry an outside call",
			"Make a call of another service that has no result now, under its idempotency key."),
			http.MethodPost, outside.PathPrefix, "/retry", adding(s, s.retryCall)},
		{changing("call_operation", "Call an operation that changes",
			"Call an operation with another method than GET by its id, as the signed-in user, and return its answer."),
			"", "", "", adding(s, s.callOperation)},
	}
}

// post sends a request and returns the JSON of the answer.
func (s *toolServer) post(ctx context.Context, path string, body any) (raw json.RawMessage, err error) {
	err = s.use(func(c *client) error { return c.call(ctx, http.MethodPost, path, body, &raw) })
	return raw, err
}

func (s *toolServer) replay(ctx context.Context, in idInput) (any, error) {
	id, err := element("dead letter", in.ID)
	if err != nil {
		return nil, err
	}
	return s.post(ctx, deadLettersPath+"/"+id+"/replay", nil)
}

func (s *toolServer) drop(ctx context.Context, in idInput) (any, error) {
	id, err := element("dead letter", in.ID)
	if err != nil {
		return nil, err
	}
	err = s.use(func(c *client) error { return c.call(ctx, http.MethodDelete, deadLettersPath+"/"+id, nil, nil) })
	return map[string]string{"dropped": in.ID}, err
}

type reasonInput struct {
	Reason string `json:"reason" jsonschema:"why, for the record"`
}

// check returns an error for an empty reason.
func (in reasonInput) check() error {
	if strings.TrimSpace(in.Reason) == "" {
		return errors.New("missing reason: it is for the record")
	}
	return nil
}

func (s *toolServer) actOnSaga(ctx context.Context, in sagaInput, what string, body any) (any, error) {
	path, _, err := s.findSaga(ctx, in)
	if err != nil {
		return nil, err
	}
	return s.post(ctx, path+"/"+what, body)
}

func (s *toolServer) retrySaga(ctx context.Context, in sagaInput) (any, error) {
	return s.actOnSaga(ctx, in, "retry", nil)
}

type skipInput struct {
	sagaInput
	Step string `json:"step" jsonschema:"the name of the step that the saga waits for, as the tool saga shows it"`
	reasonInput
}

func (s *toolServer) skip(ctx context.Context, in skipInput) (any, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return s.actOnSaga(ctx, in.sagaInput, "skip", map[string]string{"step": in.Step, "reason": in.Reason})
}

type cancelInput struct {
	sagaInput
	reasonInput
}

func (s *toolServer) cancel(ctx context.Context, in cancelInput) (any, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return s.actOnSaga(ctx, in.sagaInput, "cancel", map[string]string{"reason": in.Reason})
}

type outsideCallInput struct {
	Function string `json:"function" jsonschema:"the function that makes the call"`
	Call     string `json:"call" jsonschema:"the name of the call"`
	ID       string `json:"id" jsonschema:"its id"`
}

func (s *toolServer) retryCall(ctx context.Context, in outsideCallInput) (any, error) {
	path := strings.TrimSuffix(outside.PathPrefix, "/")
	for _, e := range []struct{ what, id string }{{"function", in.Function}, {"call", in.Call}, {"id", in.ID}} {
		id, err := element(e.what, e.id)
		if err != nil {
			return nil, err
		}
		path += "/" + id
	}
	return s.post(ctx, path+"/retry", nil)
}

type changeInput struct {
	callInput
	Body json.RawMessage `json:"body,omitempty" jsonschema:"the body, as the schema of the operation says"`
	Key  string          `json:"idempotency_key,omitempty" jsonschema:"the same key again gives the first answer"`
}

// callOperation calls an operation that changes something. What the roles of the token do not allow is not sent.
func (s *toolServer) callOperation(ctx context.Context, in changeInput) (any, error) {
	var raw json.RawMessage
	err := s.use(func(c *client) error {
		op, target, err := in.target(ctx, c)
		switch {
		case err != nil:
			return err
		case op.Method == http.MethodGet:
			return fmt.Errorf("%s has the method GET: use read_operation", op.ID)
		case !s.mayCall(op):
			return fmt.Errorf("%s is for %s, which this server's token does not have", op.ID, s.access(op))
		case len(in.Body) > 0 && !op.hasBody:
			return fmt.Errorf("%s takes no body", op.ID)
		case len(in.Body) == 0 && op.needsBody:
			return fmt.Errorf("%s needs a body; the tool operation shows its schema", op.ID)
		}
		header := http.Header{}
		if len(in.Body) > 0 {
			header.Set("Content-Type", "application/json")
		}
		if in.Key != "" {
			if strings.ContainsFunc(in.Key, func(r rune) bool { return r < '!' || r > '~' }) {
				return fmt.Errorf("invalid idempotency_key %q: want visible ASCII characters", in.Key)
			}
			header.Set("Idempotency-Key", in.Key)
		}
		raw, err = s.perform(ctx, c, op, target, header, bytes.TrimSpace(in.Body))
		return err
	})
	return raw, err
}

// mayCall reports whether the token allows an operation. One that this build does not know is for the system to refuse,
// if it is not public.
func (s *toolServer) mayCall(op operation) bool {
	r, known := s.route(op)
	if !known {
		return !op.Public
	}
	return s.allowed(r.Route)
}
