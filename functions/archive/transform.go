package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// An operator selects dead letters and mends them by two expressions in CEL (https://cel.dev). Both are evaluated for
// one letter at a time. What one evaluation may cost is limited: in steps, in time, and in bytes of its result. Values
// cannot grow exponentially, because loops go over lists of the event only, and not over what other loops have made.

// The limits of one evaluation.
const (
	maxExpression = 4 << 10 // bytes of the text
	maxCost       = 200_000 // CEL's own measure: about the number of operations, and of bytes of text in tens
	maxEvaluation = 2 * time.Second
	maxTogether   = 10 * maxCost // of the evaluations of one request or event, after which the next takes over
	maxPatch      = 1 << 20      // bytes of the result in JSON
	maxDepth      = 100          // of the result
)

// expression is a compiled expression.
type expression struct {
	name    string // of the field that has it
	program cel.Program
	source  *ast.SourceInfo
	root    ast.Expr
	loop    int64         // the outermost loop; 0: none
	longest time.Duration // of one evaluation
	spent   uint64        // what its evaluations have cost
}

// environment returns what the expressions can use. It is made when the first one is compiled.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	return cel.NewCustomEnv(
		// A regular expression takes a time that no limit of CEL counts in advance.
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction(overloads.Matches)))),
		cel.ParserRecursionLimit(60), cel.ParserExpressionSizeLimit(maxExpression), cel.DefaultUTCTimeZone(true),
		cel.Variable("consumer", cel.StringType), cel.Variable("code", cel.StringType),
		cel.Variable("reason", cel.StringType), cel.Variable("cause", cel.StringType), cel.Variable("times", cel.IntType),
		cel.Variable("failed_at", cel.TimestampType), cel.Variable("mended", cel.BoolType),
		cel.Variable("event", object), cel.Variable("data", cel.DynType),
		cel.Function("merge", cel.Overload("merge_dyn_dyn", []*cel.Type{cel.DynType, cel.DynType}, cel.DynType,
			cel.BinaryBinding(merge))),
	)
})

// compile returns the expression of a field. An error is fault.Invalid and tells the place.
func compile(name, text string, want *cel.Type) (*expression, error) {
	environment, err := environment()
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the environment of expressions")
	}
	if len(text) > maxExpression {
		return nil, fault.New(fault.Invalid, "%s: the expression has more than %d bytes", name, maxExpression)
	}
	compiled, issues := environment.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fault.New(fault.Invalid, "%s, line %d, column %d: %s",
			name, first.Location.Line(), first.Location.Column()+1, first.Message)
	}
	if out := compiled.OutputType(); !want.IsAssignableType(out) && out.Kind() != types.DynKind {
		return nil, fault.New(fault.Invalid, "%s: the expression yields %s: want %s", name, out, want)
	}
	native := compiled.NativeRep()
	x := &expression{name: name, source: native.SourceInfo(), root: native.Expr(), longest: maxEvaluation}
	if err := x.check(native.Expr()); err != nil {
		return nil, err
	}
	x.program, err = environment.Program(compiled, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(1),
		cel.CostTracking(costs{}))
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %v", name, err)
	}
	return x, nil
}

// check refuses expressions whose values can grow exponentially.
func (x *expression) check(e ast.Expr) (err error) {
	refuse := func(e ast.Expr, why string) {
		if err == nil {
			err = fault.New(fault.Invalid, "%s, %s: %s", x.name, x.place(e.ID()), why)
		}
	}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			if x.loop == 0 {
				x.loop = e.ID()
			}
			if !given(e.AsComprehension().IterRange()) {
				refuse(e, "a loop goes over a list of the event, such as data.lines, and not over a result")
			}
		case ast.CallKind:
			if name := e.AsCall().FunctionName(); name != operators.Equals && name != operators.NotEquals &&
				name != operators.In {
				return
			}
			for _, side := range e.AsCall().Args() {
				ast.PreOrderVisit(side, ast.NewExprVisitor(func(inner ast.Expr) {
					if inner.Kind() == ast.ComprehensionKind && !selects(inner.AsComprehension()) {
						refuse(inner, "the result of map cannot be compared; use exists or all")
					}
				}))
			}
		}
	}))
	return err
}

// given reports whether a list is a part of the event, a selection of one, or a list of constants.
func given(e ast.Expr) bool {
	switch e.Kind() {
	case ast.IdentKind:
		return true
	case ast.SelectKind:
		return given(e.AsSelect().Operand())
	case ast.CallKind:
		return e.AsCall().FunctionName() == operators.Index && given(e.AsCall().Args()[0])
	case ast.ListKind:
		return !slices.ContainsFunc(e.AsList().Elements(), func(e ast.Expr) bool { return e.Kind() != ast.LiteralKind })
	case ast.ComprehensionKind:
		return given(e.AsComprehension().IterRange()) && selects(e.AsComprehension())
	}
	return false
}

// selects reports whether a loop yields nothing but elements of its list, or no list at all.
func selects(c ast.ComprehensionExpr) bool {
	ok := true
	ast.PreOrderVisit(c.LoopStep(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ListKind || e.Kind() == ast.MapKind {
			elements := e.AsList().Elements()
			ok = ok && e.Kind() == ast.ListKind && len(elements) == 1 && elements[0].Kind() == ast.IdentKind &&
				elements[0].AsIdent() == c.IterVar()
		}
	}))
	return ok
}

// visit calls do with every part of the expression.
func (x *expression) visit(do func(ast.Expr)) { ast.PreOrderVisit(x.root, ast.NewExprVisitor(do)) }

// place returns where a part of the expression is.
func (x *expression) place(id int64) string {
	at := x.source.GetStartLocation(id)
	return fmt.Sprintf("line %d, column %d", max(at.Line(), 1), at.Column()+1)
}

// costs charges for merge, which CEL counts as one step, by the number of members.
type costs struct{}

// CallCost implements interpreter.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	if function != "merge" {
		return nil
	}
	cost := uint64(1)
	for _, v := range args {
		if sized, ok := v.(traits.Sizer); ok {
			if n, ok := sized.Size().(types.Int); ok {
				cost += uint64(n)
			}
		}
	}
	return &cost
}

// errCostly is that an evaluation has reached a limit. The same expression is likely to reach it for other letters too.
var errCostly = errors.New("the expression costs too much")

// evaluate evaluates the expression for a letter. It is not called concurrently for an expression. An error is
// fault.Invalid and tells the place; when ctx itself has ended it is the error of ctx.
func (x *expression) evaluate(ctx context.Context, variables map[string]any) (ref.Val, error) {
	limited, cancel := context.WithTimeout(ctx, x.longest)
	defer cancel()
	v, details, err := x.program.ContextEval(limited, variables)
	if cost := details.ActualCost(); cost != nil {
		x.spent += *cost
	}
	var cancelled interpreter.EvalCancelledError
	var failed *types.Err
	interrupted := errors.Is(err, interpreter.InterruptError{})
	switch {
	case err == nil:
		return v, nil
	case interrupted && ctx.Err() != nil:
		return nil, ctx.Err()
	case interrupted || errors.As(err, &cancelled):
		where := x.name
		if x.loop != 0 {
			where += ", the loop at " + x.place(x.loop)
		}
		return nil, fault.Wrap(errCostly, fault.Invalid, "%s: costs more than %d steps or %v", where, maxCost, x.longest)
	case errors.As(err, &failed) && failed.NodeID() != 0:
		return nil, fault.New(fault.Invalid, "%s, %s: %v", x.name, x.place(failed.NodeID()), err)
	}
	return nil, fault.New(fault.Invalid, "%s: %v", x.name, err)
}

// variablesOf returns what expressions can read of a dead letter. Personal fields have their placeholders.
func variablesOf(l letter, e ce.Event) map[string]any {
	at, _ := time.Parse(time.RFC3339Nano, l.At) // sortableTime has written it
	attributes := map[string]any{
		"id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "time": e.Time(),
	}
	for name := range e.Extensions() {
		if name != event.PersonalValues && name != keyRef {
			attributes[name] = event.Extension(e, name)
		}
	}
	v := map[string]any{
		"consumer": l.Function, "code": l.Code, "reason": l.Reason, "cause": causeOf(l.Reason), "times": int64(l.Times),
		"failed_at": at, "mended": l.Mended, "event": attributes, "data": types.NullValue,
	}
	if data, err := decodeData(e); err == nil {
		v["data"] = data
	}
	return v
}

// decodeData returns the data of an event as expressions see it: whole numbers are int where they fit.
func decodeData(e ce.Event) (any, error) {
	d := json.NewDecoder(bytes.NewReader(e.Data()))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // out of range: infinite
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// merge applies a merge patch (RFC 7396) to an object within an expression.
func merge(base, patch ref.Val) ref.Val {
	changes, ok := patch.(traits.Mapper)
	if !ok {
		return patch
	}
	merged := map[ref.Val]ref.Val{}
	if m, ok := base.(traits.Mapper); ok {
		for it := m.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			merged[k] = m.Get(k)
		}
	}
	for it := changes.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		switch v := changes.Get(k); {
		case v == types.NullValue:
			delete(merged, k)
		case merged[k] != nil:
			merged[k] = merge(merged[k], v)
		default:
			merged[k] = merge(types.NullValue, v)
		}
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, merged)
}

// patchOf returns the result of a transform in JSON.
func (x *expression) patchOf(v ref.Val) (json.RawMessage, error) {
	if _, ok := v.(traits.Mapper); !ok {
		return nil, fault.New(fault.Invalid, "%s: the expression yields %s: want an object with what changes", x.name,
			v.Type().TypeName())
	}
	var w writer
	if err := w.write(v, 0); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "%s: %v", x.name, err)
	}
	return w.Bytes(), nil
}

// writer writes a value as JSON, up to maxPatch bytes.
type writer struct{ bytes.Buffer }

func (w *writer) write(v ref.Val, depth int) error {
	switch {
	case depth > maxDepth:
		return fmt.Errorf("the result is nested more than %d times: %w", maxDepth, errCostly)
	case w.Len() > maxPatch:
		return fmt.Errorf("the result has more than %d bytes: %w", maxPatch, errCostly)
	}
	plain := func(v any) error {
		data, err := json.Marshal(v)
		w.Buffer.Write(data)
		return err
	}
	switch v := v.(type) {
	case types.Null:
		return plain(nil)
	case types.Double:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%v is no number of JSON", f)
		}
		return plain(v.Value())
	case types.Bool, types.Int, types.Uint, types.String, types.Bytes:
		return plain(v.Value())
	case types.Timestamp:
		return plain(v.UTC())
	case traits.Lister:
		w.WriteString("[")
		for it, first := v.Iterator(), true; it.HasNext() == types.True; first = false {
			if !first {
				w.WriteString(",")
			}
			if err := w.write(it.Next(), depth+1); err != nil {
				return err
			}
		}
		w.WriteString("]")
		return nil
	case traits.Mapper:
		members := map[string]ref.Val{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			name, ok := k.(types.String)
			if !ok {
				return fmt.Errorf("the name %v of a member is no text", k.Value())
			}
			members[string(name)] = v.Get(k)
		}
		w.WriteString("{")
		for i, name := range slices.Sorted(maps.Keys(members)) {
			if i > 0 {
				w.WriteString(",")
			}
			_ = plain(name) // texts always marshal
			w.WriteString(":")
			if err := w.write(members[name], depth+1); err != nil {
				return err
			}
		}
		w.WriteString("}")
		return nil
	}
	return fmt.Errorf("%s has no form in JSON; make a text of it with string()", v.Type().TypeName())
}

// patched applies a merge patch (RFC 7396). Members that it does not name keep their values, however large a number is.
func patched(base, patch json.RawMessage) (json.RawMessage, error) {
	var changes map[string]json.RawMessage
	if err := json.Unmarshal(patch, &changes); err != nil || changes == nil {
		return patch, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(base, &members); err != nil || members == nil {
		members = map[string]json.RawMessage{}
	}
	for name, change := range changes {
		if string(change) == "null" {
			delete(members, name)
			continue
		}
		next, err := patched(members[name], change)
		if err != nil {
			return nil, err
		}
		members[name] = next
	}
	return json.Marshal(members)
}
