package provider

import (
	"context"
	"fmt"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/ebb-dev/ebb/infra/flag"
	"github.com/ebb-dev/ebb/infra/function"
)

// txKey is where With puts the unit of work.
type txKey struct{}

// With returns a context for evaluations by OpenFeature in a unit of work.
func With(ctx context.Context, tx *function.Tx) context.Context {
	return context.WithValue(ctx, txKey{}, tx)
}

// OpenFeature returns the flags as a provider for the Go SDK of OpenFeature. An evaluation needs a context of With. A
// failure of the store is an error of the evaluation, after which the SDK answers with the default; the unit of work
// does not commit then.
func (p *Flags) OpenFeature() openfeature.FeatureProvider { return openFeature{p} }

type openFeature struct{ flags *Flags }

// Metadata implements openfeature.FeatureProvider.
func (openFeature) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "ebb"} }

// Hooks implements openfeature.FeatureProvider.
func (openFeature) Hooks() []openfeature.Hook { return nil }

// BooleanEvaluation implements openfeature.FeatureProvider.
func (o openFeature) BooleanEvaluation(
	ctx context.Context, key string, otherwise bool, by openfeature.FlattenedContext,
) openfeature.BoolResolutionDetail {
	return resolve(ctx, o, key, otherwise, by, as[bool])
}

// StringEvaluation implements openfeature.FeatureProvider.
func (o openFeature) StringEvaluation(
	ctx context.Context, key, otherwise string, by openfeature.FlattenedContext,
) openfeature.StringResolutionDetail {
	return resolve(ctx, o, key, otherwise, by, as[string])
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (o openFeature) FloatEvaluation(
	ctx context.Context, key string, otherwise float64, by openfeature.FlattenedContext,
) openfeature.FloatResolutionDetail {
	return resolve(ctx, o, key, otherwise, by, as[float64])
}

// IntEvaluation implements openfeature.FeatureProvider.
func (o openFeature) IntEvaluation(
	ctx context.Context, key string, otherwise int64, by openfeature.FlattenedContext,
) openfeature.IntResolutionDetail {
	return resolve(ctx, o, key, otherwise, by, func(v any) (int64, bool) {
		f, ok := v.(float64)
		return int64(f), ok && f == float64(int64(f))
	})
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (o openFeature) ObjectEvaluation(
	ctx context.Context, key string, otherwise any, by openfeature.FlattenedContext,
) openfeature.InterfaceResolutionDetail {
	return resolve(ctx, o, key, otherwise, by, as[any])
}

func as[T any](v any) (T, bool) {
	t, ok := v.(T)
	return t, ok
}

func resolve[T any](
	ctx context.Context, o openFeature, key string, otherwise T, by openfeature.FlattenedContext, as func(any) (T, bool),
) openfeature.GenericResolutionDetail[T] {
	d := openfeature.GenericResolutionDetail[T]{Value: otherwise}
	fail := func(err openfeature.ResolutionError) openfeature.GenericResolutionDetail[T] {
		d.Reason, d.ResolutionError = openfeature.ErrorReason, err
		return d
	}
	tx, ok := ctx.Value(txKey{}).(*function.Tx)
	if !ok {
		return fail(openfeature.NewGeneralResolutionError("the context has no unit of work: use provider.With"))
	}
	r, err := o.flags.Evaluate(ctx, tx, key, Context(by))
	if err != nil {
		tx.Fail(err)
		return fail(openfeature.NewGeneralResolutionError(err.Error()))
	}
	d.Reason, d.Variant, d.FlagMetadata = openfeature.Reason(r.Reason), r.Variant, r.Metadata
	switch {
	case r.Code == flag.CodeNotFound:
		return fail(openfeature.NewFlagNotFoundResolutionError(r.Message))
	case r.Code == flag.CodeParseError:
		return fail(openfeature.NewParseErrorResolutionError(r.Message))
	case r.Code == flag.CodeInvalidContext:
		return fail(openfeature.NewInvalidContextResolutionError(r.Message))
	case r.Code != "":
		return fail(openfeature.NewGeneralResolutionError(r.Message))
	case r.Variant == "":
		return d // the caller's own default
	}
	v, ok := as(r.Value)
	if !ok {
		message := fmt.Sprintf("the flag %s has values such as %v", key, r.Value)
		return fail(openfeature.NewTypeMismatchResolutionError(message))
	}
	d.Value = v
	return d
}
