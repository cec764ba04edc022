package aws_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// platform is what the emulator lacks of Lambda: sandboxes, and the mappings that take messages from queues.
type platform struct {
	t       *testing.T
	address string // of the front
	program string
	log     io.Writer

	mu        sync.Mutex
	sandboxes map[string]*sandbox
	batches   int
	every     int // each how manyth batch its sandbox is killed after its work, before its answer; 0: none
	lost      int // sandboxes that were killed so
	inits     []time.Duration
}

// sandbox is a process of one function.
type sandbox struct {
	cmd     *exec.Cmd
	started time.Time
	ready   bool          // it has asked for an invocation
	batch   bool          // it handles a batch
	kill    bool          // it is killed when it answers
	ended   chan struct{} // closed when it has ended
}

const (
	region  = "us-east-1" // the emulator's
	account = "000000000000"
)

// unpack returns the path of the program of a package.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := z.Open("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	program := filepath.Join(t.TempDir(), "bootstrap")
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, f)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// start starts a sandbox with the configuration that the function has in AWS.
func (p *platform) start(function string) error {
	var c struct {
		Environment struct{ Variables map[string]string }
	}
	if err := p.lambda(http.MethodGet, "/2015-03-31/functions/"+function+"/configuration", nil, &c); err != nil {
		return err
	}
	s := &sandbox{cmd: exec.Command(p.program), started: time.Now(), ended: make(chan struct{})}
	s.cmd.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + p.address + "/_runtime/" + function, "AWS_LAMBDA_FUNCTION_NAME=" + function,
		"AWS_REGION=" + region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_ENDPOINT_URL=http://" + p.address, "EBB_LOG_LEVEL=warn",
	}
	for name, value := range c.Environment.Variables {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.Stderr = p.log
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := s.cmd.Start(); err != nil {
		return err
	}
	p.sandboxes[function] = s
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	return nil
}

// stop kills all sandboxes.
func (p *platform) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sandboxes {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// next notes that a sandbox is ready.
func (p *platform) next(function string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sandboxes[function]; s != nil && !s.ready {
		s.ready = true
		p.inits = append(p.inits, time.Since(s.started))
	}
}

// respond kills the sandbox instead of handing its answer on, when it is its turn.
func (p *platform) respond(function string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sandboxes[function]
	if s == nil || !s.batch || !s.kill {
		return true
	}
	p.lost++
	_ = s.cmd.Process.Kill()
	return false
}

// figures returns how many sandboxes were killed, and how long processes took to start, sorted.
func (p *platform) figures() (lost int, inits []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost, slices.Sorted(slices.Values(p.inits))
}

// kills has the sandbox of each how manyth batch killed; 0: none.
func (p *platform) kills(every int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every = every
}

// revive starts another sandbox of a function when its last one has ended.
func (p *platform) revive(function string) {
	p.mu.Lock()
	s := p.sandboxes[function]
	p.mu.Unlock()
	select {
	case <-s.ended:
		if err := p.start(function); err != nil {
			p.t.Error(err)
		}
	default:
	}
}

// begin returns the sandbox of a function, which handles a batch from now on.
func (p *platform) begin(function string) *sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sandboxes[function]
	p.batches++
	s.batch, s.kill = true, p.every > 0 && p.batches%p.every == 0
	return s
}

func (p *platform) end(s *sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.batch, s.kill = false, false
}

// mapping is an event source mapping.
type mapping struct {
	FunctionArn, EventSourceArn string
	BatchSize                   int
}

// mappings returns all mappings that there are.
func (p *platform) mappings() (all []mapping, err error) {
	var out struct{ EventSourceMappings []mapping }
	err = p.lambda(http.MethodGet, "/2015-03-31/event-source-mappings", nil, &out)
	return out.EventSourceMappings, err
}

// message is a message of SQS as a response has it.
type message struct {
	MessageId, ReceiptHandle, Body string
	Attributes                     map[string]string
}

// poll does the work of a mapping until ctx ends. Messages that failed are visible again after a second, and not after
// the time that the queue has for it.
func (p *platform) poll(ctx context.Context, m mapping, turn *sync.Mutex) error {
	queue, function := last(m.EventSourceArn), last(m.FunctionArn)
	var q struct{ QueueUrl string }
	if err := p.json("AmazonSQS.GetQueueUrl", map[string]any{"QueueName": queue}, &q); err != nil {
		return err
	}
	for ctx.Err() == nil {
		var got struct{ Messages []message }
		err := p.json("AmazonSQS.ReceiveMessage", map[string]any{
			"QueueUrl": q.QueueUrl, "MaxNumberOfMessages": m.BatchSize, "WaitTimeSeconds": 1,
			"AttributeNames": []string{"All"}, "MessageSystemAttributeNames": []string{"All"},
		}, &got)
		if err != nil {
			return err
		}
		if len(got.Messages) == 0 {
			continue
		}
		turn.Lock()
		failed := p.batch(ctx, function, m.EventSourceArn, got.Messages)
		turn.Unlock()
		for _, message := range got.Messages {
			in := map[string]any{"QueueUrl": q.QueueUrl, "ReceiptHandle": message.ReceiptHandle}
			target := "AmazonSQS.DeleteMessage"
			if slices.Contains(failed, message.MessageId) {
				target, in["VisibilityTimeout"] = "AmazonSQS.ChangeMessageVisibility", 1
			}
			if err := p.json(target, in, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// batch invokes a function with messages and returns the ids of those that failed.
func (p *platform) batch(ctx context.Context, function, queue string, messages []message) (failed []string) {
	var batch events.SQSEvent
	for _, m := range messages {
		failed = append(failed, m.MessageId)
		batch.Records = append(batch.Records, events.SQSMessage{
			MessageId: m.MessageId, Body: m.Body, Attributes: m.Attributes, EventSource: "aws:sqs", EventSourceARN: queue,
			ReceiptHandle: m.ReceiptHandle,
		})
	}
	s := p.begin(function)
	defer p.end(s)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	var out events.SQSEventResponse
	if err := p.invoke(ctx, function, batch, &out); err != nil {
		p.revive(function)
		return failed
	}
	failed = nil
	for _, f := range out.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	return failed
}

// invoke invokes a function and decodes its response into out, unless that is nil.
func (p *platform) invoke(ctx context.Context, function string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	path := "/2015-03-31/functions/" + function + "/invocations"
	return p.call(ctx, http.MethodPost, path, http.Header{}, "lambda", body, out)
}

func (p *platform) lambda(method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return p.call(context.Background(), method, path, http.Header{}, "lambda", body, out)
}

// json calls a service of AWS that speaks JSON.
func (p *platform) json(target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	header := http.Header{"X-Amz-Target": {target}, "Content-Type": {"application/x-amz-json-1.0"}}
	service, _, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(target, "Amazon")), ".")
	return p.call(context.Background(), http.MethodPost, "/", header, service, body, out)
}

func (p *platform) call(
	ctx context.Context, method, path string, header http.Header, service string, body []byte, out any,
) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+"/"+service+
		"/aws4_request, SignedHeaders=host, Signature=0")
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		return err
	}
	if w.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s %s: status %d: %s", method, path, header.Get("X-Amz-Target"), w.StatusCode, text)
	}
	if w.Header.Get("X-Amz-Function-Error") != "" {
		return errors.New(string(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// logged collects what sandboxes write.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func last(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
