// Package lambda hosts one function on AWS Lambda, in the runtimes provided.al2023 and provided.al2.
//
// One handler takes everything that Lambda invokes the function with:
//
//   - Requests of an HTTP API (payload format 2.0) and of a function URL, for the declared operations.
//   - Batches of an SQS queue. The response names the messages that failed (batchItemFailures), so the event source
//     mapping needs ReportBatchItemFailures. Of a FIFO queue these are the first failure of a message group and
//     everything after it in that group.
//   - CloudEvents that EventBridge has in detail, or SNS in a notification. The invocation fails when the event must be
//     tried again, and Lambda repeats it as the function's asynchronous configuration says.
//   - The Scheduler's event {"ebb":"tick"} and EventBridge's scheduled events, for a function with a tick handler.
//
// The host applies the filters of the function's trigger itself, because what sends to Lambda cannot apply all of them:
// an event that they do not let through counts as handled.
//
// The context of a handler ends before Lambda kills the sandbox, by Config.Margin. A sandbox handles one invocation at
// a time, unless AWS_LAMBDA_MAX_CONCURRENCY says otherwise, and has one handle on its database, which all invocations
// share. Lambda freezes it between invocations: nothing runs then, and what telemetry has to export is exported before
// the response.
//
// A sandbox that is killed leaves what package function documents: a unit of work is committed as a whole or not at
// all, SQS makes its messages visible again, and the inbox drops those that were handled. On SIGTERM, which Lambda
// sends because an internal extension is registered, the host closes the database. Lambda sends SIGKILL 500 ms later.
package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Config configures a Host. Every field is optional.
type Config struct {
	Manifest string          // the hash of the declaration that was deployed; "": it is not compared
	Delivery *broker.Trigger // how events are delivered; nil: as the function declares

	// DeadLetter takes an event that failed for good, with the extensions of a dead letter. When it returns nil, the
	// message counts as handled. Nil: the message fails until the queue's redrive policy moves it.
	DeadLetter func(ctx context.Context, e ce.Event) error

	// Decode returns the event of a message's body; nil: event.FromJSON. Of a message that refers to the data of its
	// event, because that is too large for a message, it returns the attributes, and load, which returns the event with
	// its data; load is called only for an event that the trigger's filters let through. An error with the method
	// Refused() (ce.Event, broker.Result) says that the event cannot be handled, such as one whose data is gone: it is a
	// dead letter with that result.
	Decode func(body []byte) (e ce.Event, load func(context.Context) (ce.Event, error), err error)

	Stream    bool                 // responses are streamed: the function URL has the invoke mode RESPONSE_STREAM
	Margin    time.Duration        // how long before Lambda's deadline a handler's context ends; 0: 500 ms
	Telemetry *telemetry.Telemetry // nil: none
	Logger    *slog.Logger         // nil: slog.Default
	Now       func() time.Time     // the time of ticks; nil: time.Now
}

// The defaults and limits of a host.
const (
	margin    = 500 * time.Millisecond
	initTime  = 5 * time.Second // of the start before the first invocation; Lambda gives the whole init 10 s
	stopTime  = 400 * time.Millisecond
	flushTime = time.Second
)

// Host serves one function. Its methods may be called concurrently.
type Host struct {
	f   host.Instance
	m   manifest.Function
	cfg Config

	matcher broker.Matcher // of the trigger's filters
	invalid error          // the filters are not valid

	opening chan struct{} // has room for one: the call that starts the function
	open    chan struct{} // closed when the function is started

	mu      sync.Mutex
	skipped map[string]int // how often a message was received and not tried, by its id
}

// New returns a host of a function that is not started.
func New(f host.Instance, cfg Config) *Host {
	declared := f.Declaration()
	if cfg.Delivery == nil {
		cfg.Delivery = &declared.Subscription
	}
	if cfg.Decode == nil {
		cfg.Decode = decode
	}
	if cfg.Margin == 0 {
		cfg.Margin = margin
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	matcher, err := broker.Compile(cfg.Delivery.Filters)
	return &Host{
		f: f, m: declared.Function, cfg: cfg, matcher: matcher, invalid: err,
		opening: make(chan struct{}, 1), open: make(chan struct{}), skipped: map[string]int{},
	}
}

// Serve starts the function and serves the runtime API at AWS_LAMBDA_RUNTIME_API. It does not return: Lambda kills the
// process, and the process ends itself with status 1 when the runtime API cannot be reached. A start that fails is
// tried again by the invocations.
func (h *Host) Serve() {
	ctx, cancel := context.WithTimeout(context.Background(), initTime)
	if err := h.Start(ctx); err != nil {
		h.cfg.Logger.Error("the function is not ready yet", "error", err)
	}
	cancel()
	awslambda.StartWithOptions(h.Invoke, awslambda.WithEnableSIGTERM(h.terminate))
}

// Start starts the function, unless it is started. A concurrent call waits for the one that does. An error is
// fault.Unavailable and has the reason.
func (h *Host) Start(ctx context.Context) error {
	if h.started() {
		return nil
	}
	if own := h.m.Hash(); h.cfg.Manifest != "" && own != h.cfg.Manifest {
		return h.notReady(fmt.Errorf("the package's declaration (%s) differs from the manifest that was deployed (%s); "+
			"deploy both from one version", own, h.cfg.Manifest))
	}
	if h.invalid != nil {
		return h.notReady(h.invalid)
	}
	select {
	case h.opening <- struct{}{}:
		defer func() { <-h.opening }()
	case <-ctx.Done():
		return h.notReady(ctx.Err())
	}
	if h.started() {
		return nil
	}
	began := time.Now()
	if err := h.f.Start(ctx); err != nil {
		return h.notReady(err)
	}
	close(h.open)
	h.cfg.Telemetry.ColdStart(h.m.Name, time.Since(began))
	h.cfg.Logger.Info("the function is ready", "took", time.Since(began).String())
	return nil
}

func (h *Host) started() bool {
	select {
	case <-h.open:
		return true
	default:
		return false
	}
}

func (h *Host) notReady(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "%s is not ready", h.m.Name)
}

// Stop closes the database. The caller must have ended its invocations, and starts none after it.
func (h *Host) Stop(ctx context.Context) error { return h.f.Stop(ctx) }

// terminate ends the sandbox within what Lambda leaves between SIGTERM and SIGKILL.
func (h *Host) terminate() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		h.cfg.Logger.Warn("the function did not stop in time", "error", err)
	} else {
		h.cfg.Logger.Info("the function has stopped")
	}
	_ = h.cfg.Telemetry.Shutdown(ctx) // there is no time left to do something about it
}

// payload holds the members by which invocations are told apart.
type payload struct {
	Tick           string          `json:"ebb"`
	DetailType     *string         `json:"detail-type"`
	Detail         json.RawMessage `json:"detail"`
	RequestContext *struct {
		HTTP *struct{} `json:"http"`
	} `json:"requestContext"`
	Records []struct {
		SQS string `json:"eventSource"`
		SNS string `json:"EventSource"`
	} `json:"Records"`
}

// Invoke handles one invocation, in the form that package lambda of aws-lambda-go calls. It returns what is encoded as
// JSON, or an io.Reader of a streamed response. An error makes Lambda repeat an asynchronous invocation.
func (h *Host) Invoke(ctx context.Context, data json.RawMessage) (any, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-h.cfg.Margin))
		defer cancel()
	}
	var p payload
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the invocation is not a JSON object")
	}
	out, err := h.invoke(ctx, data, p)
	if _, streams := out.(*events.LambdaFunctionURLStreamingResponse); !streams { // it flushes when it ends
		h.flush(ctx)
	}
	return out, err
}

func (h *Host) invoke(ctx context.Context, data json.RawMessage, p payload) (any, error) {
	switch {
	case p.RequestContext != nil && p.RequestContext.HTTP != nil:
		return h.request(ctx, data)
	case len(p.Records) > 0 && p.Records[0].SQS == "aws:sqs":
		return h.queue(ctx, data)
	case len(p.Records) > 0 && p.Records[0].SNS == "aws:sns":
		return nil, h.notifications(ctx, data)
	case p.Tick == "tick", p.DetailType != nil && *p.DetailType == "Scheduled Event":
		return nil, h.tick(ctx)
	case p.DetailType != nil:
		return nil, h.invokeWith(ctx, []*item{h.item(p.Detail)})
	}
	return nil, fault.New(fault.Invalid, "unknown invocation: want an HTTP request (payload format 2.0), a batch of an "+
		"SQS queue, an SNS notification, an EventBridge event, or {\"ebb\":\"tick\"}")
}

// flush exports telemetry before the sandbox is frozen. Its errors are logged by package telemetry.
func (h *Host) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(flushTime, h.cfg.Margin/2))
	defer cancel()
	_ = h.cfg.Telemetry.Flush(ctx)
}

// tick calls the tick handler until no work or time is left.
func (h *Host) tick(ctx context.Context) error {
	if err := h.Start(ctx); err != nil {
		return err
	}
	for {
		more, err := h.f.Tick(ctx, h.cfg.Now())
		if err != nil || !more || ctx.Err() != nil {
			return err
		}
	}
}
