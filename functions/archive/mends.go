package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// A mend is a job that goes through the dead letters that waited when it was started, in the order in which they
// failed. It changes the data of those that are selected and sends them again, in batches of 1, 10, 100 and so on.
// After each batch it waits, and it stops as soon as one that it has sent fails again.
//
// The job is a document, and goes on by a command of the archive to itself: one for each portion, and a timer after
// each batch. A portion changes the job, its letters and what is sent in one unit of work, so each letter is sent once,
// however often the command comes and wherever a process ends. A letter keeps the id of the job that has sent it: the
// job does not take it again, and its failure stops the job.

// The states of a mend.
const (
	mendRunning = "running"
	mendStopped = "stopped"
	mendDone    = "done"
)

const (
	maxBatch      = 10_000
	maxRefusals   = 20 // that a job lists
	maxActs       = 50
	mendRetention = 90 * 24 * time.Hour // of a job that has ended
)

// mendJob is a mend.
type mendJob struct {
	State     string    `json:"state"`
	Where     string    `json:"where,omitempty"`
	Transform string    `json:"transform,omitempty"` // hiddenText if it is sealed
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	CreatedAt string    `json:"created_at"` // letters that failed later are not taken; see sortableTime
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Why       string    `json:"why,omitempty"` // it has stopped
	Watch     int       `json:"watch"`         // seconds after each batch

	Personal bool   `json:"personal,omitempty"` // the transform may contain personal data; see sealTransform
	Sealed   string `json:"sealed,omitempty"`   // the encrypted transform, until the job has ended
	Key      string `json:"key,omitempty"`      // the wrapped key of Sealed

	Step     int       `json:"step"`             // that a command is on its way for
	Cursor   string    `json:"cursor,omitempty"` // after the last letter that was looked at
	Through  bool      `json:"through,omitempty"`
	Batch    int       `json:"batch"`
	InBatch  int       `json:"in_batch,omitempty"`      // that were sent
	Watching time.Time `json:"watching_until,omitzero"` // the end of the batch

	Looked   int       `json:"looked"`
	Sent     int       `json:"sent"`
	Failed   int       `json:"failed"`
	Refused  int       `json:"refused"`
	Refusals []Refusal `json:"refusals,omitempty"`
	Acts     []MendAct `json:"acts,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}

// Refusal is a dead letter that could not be mended.
type Refusal struct {
	ID  string `json:"id" doc:"Of the dead letter."`
	Why string `json:"why"`
}

// MendAct is what a person has done with a mend.
type MendAct struct {
	At     time.Time `json:"at"`
	By     string    `json:"by" doc:"The id of the user."`
	What   string    `json:"what" enum:"start,stop,continue"`
	Reason string    `json:"reason,omitempty"`
}

// Mend is the API's form of a mend.
type Mend struct {
	ID        string    `json:"id"`
	State     string    `json:"state" enum:"running,stopped,done"`
	Where     string    `json:"where,omitempty" doc:"Which dead letters: an expression in CEL."`
	Transform string    `json:"transform,omitempty" doc:"What changes in the data: an expression in CEL. One that may write what is personal is shown as … and is only stored, encrypted, until the mend has ended."`
	Reason    string    `json:"reason"`
	By        string    `json:"by" doc:"The id of the user who has started it."`
	CreatedAt string    `json:"created_at" format:"date-time" doc:"Dead letters that failed later are not taken."`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Why       string    `json:"why,omitempty" doc:"Why it has stopped."`
	Batch     int       `json:"batch" doc:"How many are sent before it waits."`
	InBatch   int       `json:"in_batch" doc:"How many of them are sent."`
	Watching  time.Time `json:"watching_until,omitzero" doc:"It waits for new failures."`
	Looked    int       `json:"looked" doc:"How many dead letters it has looked at."`
	Sent      int       `json:"sent"`
	Failed    int       `json:"failed" doc:"How many of them have failed again."`
	Refused   int       `json:"refused" doc:"How many could not be mended. They wait, unchanged."`
	Refusals  []Refusal `json:"refusals" doc:"The first of them."`
	Acts      []MendAct `json:"acts" doc:"Who did what, the latest last."`
}

func (j mendJob) shown(id string) Mend {
	return Mend{
		ID: id, State: j.State, Where: j.Where, Transform: j.Transform, Reason: j.Reason, By: j.By,
		CreatedAt: j.CreatedAt, EndedAt: j.EndedAt, Why: j.Why, Batch: j.Batch, InBatch: j.InBatch, Watching: j.Watching,
		Looked: j.Looked, Sent: j.Sent, Failed: j.Failed, Refused: j.Refused,
		Refusals: append([]Refusal{}, j.Refusals...), Acts: append([]MendAct{}, j.Acts...),
	}
}

// end ends the job, or interrupts it.
func (j *mendJob) end(state, why string, now time.Time) {
	j.State, j.Why, j.EndedAt, j.Expires, j.Watching = state, why, now, now.Add(mendRetention), time.Time{}
	j.Sealed, j.Key = "", ""
}

func (j *mendJob) act(tx *function.Tx, what, reason string) {
	j.Acts = append(j.Acts, MendAct{At: tx.Now(), By: tx.Principal().Subject, What: what, Reason: reason})
	if len(j.Acts) > maxActs {
		j.Acts = append(j.Acts[:1:1], j.Acts[len(j.Acts)-maxActs+1:]...)
	}
}

// cut returns the beginning of a message, which may have a part of the event in it.
func cut(err error) string {
	text := err.Error()
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + " …"
	}
	return text
}

func (j *mendJob) refuse(id string, err error) {
	if j.Refused++; len(j.Refusals) < maxRefusals {
		j.Refusals = append(j.Refusals, Refusal{id, j.told(cut(err))})
	}
}

// told returns a message in the form in which the job stores it. If the transform may contain personal data, that is
// without texts and numbers, which may be constants of the transform.
func (j *mendJob) told(message string) string {
	if j.Personal {
		return causeOf(message)
	}
	return message
}

// mendRules are the compiled expressions of a mend.
type mendRules struct{ where, transform *expression } // nil: all; nothing changes

func rulesOf(where, transform string) (r mendRules, err error) {
	if where != "" {
		if r.where, err = compile("where", where, cel.BoolType); err != nil {
			return r, err
		}
	}
	if transform != "" {
		r.transform, err = compile("transform", transform, cel.MapType(cel.StringType, cel.DynType))
	}
	return r, err
}

// tired reports whether the evaluations have cost so much together that the next request or event takes over. A handler
// has no time for as many letters as it may look at when each costs nearly as much as one may.
func (r mendRules) tired() bool {
	spent := uint64(0)
	for _, x := range []*expression{r.where, r.transform} {
		if x != nil {
			spent += x.spent
		}
	}
	return spent > maxTogether
}

// apply returns whether a letter is selected, and the letter with its new data. An error that is fault.Invalid is about
// this letter.
func (a *archive) apply(
	ctx context.Context, tx store.Transactor, r mendRules, l letter,
) (next letter, selected bool, err error) {
	e, err := event.FromJSON(l.Event)
	if err != nil {
		return l, false, fault.Wrap(err, fault.Invalid, "its event cannot be read")
	}
	variables := variablesOf(l, e)
	if r.where != nil {
		v, err := r.where.evaluate(ctx, variables)
		if err != nil {
			return l, false, err
		}
		if ok, isBool := v.Value().(bool); !isBool {
			return l, false, fault.New(fault.Invalid, "where: the expression yields %s: want bool", v.Type().TypeName())
		} else if !ok {
			return l, false, nil
		}
	}
	if r.transform == nil {
		return l, true, nil
	}
	if !json.Valid(e.Data()) {
		return l, true, fault.New(fault.Invalid, "transform: the data is not JSON")
	}
	v, err := r.transform.evaluate(ctx, variables)
	if err != nil {
		return l, true, err
	}
	patch, err := r.transform.patchOf(v)
	if err != nil {
		return l, true, err
	}
	data, err := patched(e.Data(), patch)
	if err != nil {
		return l, true, fault.Wrap(err, fault.Invalid, "transform: %v", err)
	}
	next, err = a.withNewData(ctx, tx, l, data)
	if most := a.maxEvent(); err == nil && len(next.Event) > max(most, len(l.Event)) {
		err = fault.New(fault.Invalid, "transform: the event has %d bytes, and the broker takes %d", len(next.Event), most)
	}
	return next, true, err
}

// aboutLetter reports whether an error says that a letter cannot be mended; others are about the store.
func aboutLetter(err error) bool {
	return fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Denied)
}

// eachWaiting calls do with the dead letters that wait and failed until a time, from a cursor on, the oldest first. It
// returns the cursor after the last one, and whether there are more. It ends after about maxPage bytes.
func (a *archive) eachWaiting(
	ctx context.Context, tx *function.Tx, until, cursor string, most int,
	do func(id string, l letter) (more bool, err error),
) (after string, left bool, err error) {
	order := []store.Order{{Field: "at"}}
	size, bytes := firstQuery, 0
	for seen := 0; seen < most && bytes < maxPage; {
		page, err := a.dead.Query(ctx, tx, store.Find{
			Where: []store.Filter{
				{Field: "state", Op: store.Equal, Value: waiting}, {Field: "at", Op: store.LessOrEqual, Value: until},
			},
			Order: order, Limit: min(size, most-seen), Cursor: cursor,
		})
		if err != nil {
			return cursor, true, err
		}
		read := 0
		for _, item := range page.Items {
			l, err := a.joinLetter(ctx, tx, item.ID, item.Value)
			if err != nil {
				return cursor, true, err
			}
			more, err := do(item.ID, l)
			if err != nil {
				return cursor, true, err
			}
			cursor = store.EncodeCursor(store.Position{Values: []any{l.At}, ID: item.ID})
			if read += len(l.Event); !more || bytes+read >= maxPage {
				return cursor, true, nil
			}
		}
		if page.Next == "" {
			return cursor, false, nil
		}
		seen, bytes = seen+len(page.Items), bytes+read
		size = nextSize(size, len(page.Items), read)
	}
	return cursor, true, nil
}

// mend does the next portion of a mend.
func (a *archive) mend(ctx context.Context, tx *function.Tx, cmd event.MendDeadLetters) error {
	if err := a.store(ctx, tx, tx.Event()); err != nil {
		return err
	}
	job, ok, err := a.mends.Find(ctx, tx, cmd.MendID)
	if err != nil || !ok || job.State != mendRunning || cmd.Step != job.Step {
		return err
	}
	if !job.Watching.IsZero() { // the batch has not failed
		job.Watching, job.InBatch, job.Batch = time.Time{}, 0, min(10*job.Batch, maxBatch)
	}
	if !job.Through {
		if err := a.mendPortion(ctx, tx, cmd.MendID, &job); err != nil {
			return err
		}
	}
	switch {
	case job.State != mendRunning:
	case job.InBatch > 0 && (job.Through || job.InBatch == job.Batch):
		job.Step++
		job.Watching = tx.Now().Add(time.Duration(job.Watch) * time.Second)
		next := event.ArchiveMend.New(cmd.MendID, event.MendDeadLetters{MendID: cmd.MendID, Step: job.Step})
		if _, err := tx.After(job.Watching, next); err != nil {
			return err
		}
	case job.Through:
		job.end(mendDone, "", tx.Now())
	default:
		a.proceedMend(tx, cmd.MendID, &job)
	}
	return a.mends.Put(ctx, tx, cmd.MendID, job)
}

// proceedMend emits the command for the next portion.
func (a *archive) proceedMend(tx *function.Tx, id string, job *mendJob) {
	job.Step++
	tx.Emit(event.ArchiveMend.New(id, event.MendDeadLetters{MendID: id, Step: job.Step}))
}

// mendPortion mends and sends the next letters: at most the rest of the batch.
func (a *archive) mendPortion(ctx context.Context, tx *function.Tx, id string, job *mendJob) error {
	transform, err := a.transformOf(id, job)
	if err != nil {
		job.end(mendStopped, "its transform cannot be decrypted", tx.Now())
		return nil
	}
	rules, err := rulesOf(job.Where, transform)
	if err != nil { // another version has taken it
		job.end(mendStopped, job.told(err.Error()), tx.Now())
		return nil
	}
	room, bytes := min(job.Batch-job.InBatch, tx.StoreTx().Portion(maxReplayed)), 0
	cursor, left, err := a.eachWaiting(ctx, tx, job.CreatedAt, job.Cursor, maxScanned,
		func(letterID string, l letter) (more bool, err error) {
			job.Looked++
			if l.Mend == id {
				return true, nil
			}
			next, selected, err := a.apply(ctx, tx, rules, l)
			switch {
			case err != nil && !aboutLetter(err):
				return false, err
			case err != nil:
				if job.refuse(letterID, err); errors.Is(err, errCostly) {
					job.end(mendStopped, job.told(cut(err)), tx.Now())
					return false, nil
				}
				return !rules.tired(), nil
			case !selected:
				return !rules.tired(), nil
			}
			next.Mend = id
			if _, err := a.sendAgain(ctx, tx, letterID, next); err != nil {
				return false, err
			}
			job.Sent, job.InBatch = job.Sent+1, job.InBatch+1
			room, bytes = room-1, bytes+len(next.Event)
			return room > 0 && bytes < replayedBytes && !rules.tired(), nil
		})
	job.Cursor, job.Through = cursor, !left
	return err
}

// mendFailed tells a mend that a letter which it has sent has failed again. A running one stops.
func (a *archive) mendFailed(ctx context.Context, tx *function.Tx, letterID string, l letter) error {
	job, ok, err := a.mends.Find(ctx, tx, l.Mend)
	if err != nil || !ok {
		return err
	}
	if job.Failed++; job.State == mendRunning {
		why := fmt.Sprintf("%s failed again in %s: %s %s", letterID, l.Function, l.Code, job.told(l.Reason))
		job.end(mendStopped, why, tx.Now())
	}
	return a.mends.Put(ctx, tx, l.Mend, job)
}

// MendRequest is what a mend, or a dry run of it, does. It is exported so that OpenAPI has its fields.
type MendRequest struct {
	Where     string `json:"where,omitempty" maxLength:"4096" doc:"Which of the dead letters that wait: an expression in CEL that is true or false, over consumer (the function that failed), code, reason, cause, times, failed_at, mended, event and data. Missing: all."`
	Transform string `json:"transform,omitempty" maxLength:"4096" doc:"What changes in the data: an expression in CEL over the same that yields an object, which is applied as a merge patch (RFC 7396). Missing: nothing."`
}

type startMendInput struct {
	Body struct {
		MendRequest
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"For the record."`
		Watch  *int   `json:"watch,omitempty" minimum:"0" maximum:"86400" doc:"How many seconds it waits for failures after each batch; missing: 5."`
	}
}

type mendOutput struct{ Body Mend }

// startMend starts a mend.
func (a *archive) startMend(ctx context.Context, tx *function.Tx, in *startMendInput) (*mendOutput, error) {
	rules, err := rulesOf(in.Body.Where, in.Body.Transform)
	if err != nil {
		return nil, err
	}
	job := mendJob{
		State: mendRunning, Where: in.Body.Where, Transform: in.Body.Transform, Reason: in.Body.Reason,
		By: tx.Principal().Subject, CreatedAt: sortableTime(tx.Now()), Batch: 1, Watch: 5,
	}
	if in.Body.Watch != nil {
		job.Watch = *in.Body.Watch
	}
	job.act(tx, "start", in.Body.Reason)
	id := tx.NewID()
	if a.mayContainPersonal(rules.transform) {
		if err := a.sealTransform(id, &job); err != nil {
			return nil, err
		}
	}
	a.proceedMend(tx, id, &job)
	return &mendOutput{job.shown(id)}, a.mends.Create(ctx, tx, id, job)
}

type mendIDInput struct {
	ID string `path:"id" maxLength:"100" doc:"The mend's id."`
}

func (a *archive) getMend(ctx context.Context, tx *function.Tx, in *mendIDInput) (*mendOutput, error) {
	job, err := a.findMend(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &mendOutput{job.shown(in.ID)}, nil
}

func (a *archive) findMend(ctx context.Context, tx *function.Tx, id string) (mendJob, error) {
	job, ok, err := a.mends.Find(ctx, tx, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no such mend")
	}
	return job, err
}

func (a *archive) listMends(ctx context.Context, tx *function.Tx, in *function.Paging) (*function.Page[Mend], error) {
	page, err := a.mends.Query(ctx, tx, store.Find{
		Order: []store.Order{{Field: "created_at", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[mendJob]) Mend { return item.Value.shown(item.ID) }), nil
}

type mendActInput struct {
	ID   string `path:"id" maxLength:"100" doc:"The mend's id."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"For the record."`
	}
}

// stopMend stops a mend. What it has sent stays sent.
func (a *archive) stopMend(ctx context.Context, tx *function.Tx, in *mendActInput) (*mendOutput, error) {
	job, err := a.findMend(ctx, tx, in.ID)
	if err == nil && job.State != mendRunning {
		err = fault.New(fault.Conflict, "the mend is %s", job.State)
	}
	if err != nil {
		return nil, err
	}
	job.act(tx, "stop", in.Body.Reason)
	job.end(mendStopped, "stopped by an operator: "+in.Body.Reason, tx.Now())
	return &mendOutput{job.shown(in.ID)}, a.mends.Put(ctx, tx, in.ID, job)
}

// continueMend has a mend go on after the last letter that it has looked at, in batches from 1 on. That is for one that
// has stopped, and for one whose command was lost.
func (a *archive) continueMend(ctx context.Context, tx *function.Tx, in *mendActInput) (*mendOutput, error) {
	job, err := a.findMend(ctx, tx, in.ID)
	if err == nil && job.State == mendDone {
		err = fault.New(fault.Conflict, "the mend is %s", job.State)
	}
	if err == nil && job.Personal && job.Sealed == "" {
		err = fault.New(fault.Conflict, "its transform may have had personal data, and is not stored any more: start another")
	}
	if err != nil {
		return nil, err
	}
	job.act(tx, "continue", in.Body.Reason)
	job.State, job.Why, job.EndedAt, job.Expires, job.Watching = mendRunning, "", time.Time{}, time.Time{}, time.Time{}
	job.Batch, job.InBatch = 1, 0
	a.proceedMend(tx, in.ID, &job)
	return &mendOutput{job.shown(in.ID)}, a.mends.Put(ctx, tx, in.ID, job)
}

// A page of a dry run looks at maxTried letters at most, and shows maxExamples of what would change, which have
// exampleBytes together.
const (
	maxTried     = 1000
	maxExamples  = 5
	exampleBytes = 256 << 10
)

type dryRunInput struct {
	Body struct {
		MendRequest
		Cursor string `json:"cursor,omitempty" maxLength:"1024" doc:"The next of the page before."`
	}
}

// Example is what a mend would do with a dead letter.
type Example struct {
	ID       string          `json:"id" doc:"Of the dead letter."`
	Function string          `json:"function"`
	Type     string          `json:"type"`
	Before   json.RawMessage `json:"before,omitempty" doc:"The data of the event; missing when it is not JSON."`
	After    json.RawMessage `json:"after,omitempty"`
}

type dryRunOutput struct {
	Body struct {
		Looked   int       `json:"looked" doc:"How many dead letters the page has looked at."`
		Selected int       `json:"selected"`
		Changed  int       `json:"changed" doc:"How many of those selected would get other data."`
		Refused  int       `json:"refused" doc:"How many could not be mended."`
		Examples []Example `json:"examples" doc:"The first that are selected."`
		Refusals []Refusal `json:"refusals" doc:"The first that could not be mended."`
		Next     string    `json:"next,omitempty" doc:"The cursor of the next page; none: this is the last."`
	}
}

// dryRun tells what a mend would do, page by page, and changes nothing.
func (a *archive) dryRun(ctx context.Context, tx *function.Tx, in *dryRunInput) (*dryRunOutput, error) {
	rules, err := rulesOf(in.Body.Where, in.Body.Transform)
	if err != nil {
		return nil, err
	}
	out := &dryRunOutput{}
	o := &out.Body
	o.Examples, o.Refusals = []Example{}, []Refusal{}
	size, dropped := 0, tx.StoreTx().Nest() // such as a key for a person who has none yet
	cursor, left, err := a.eachWaiting(ctx, tx, sortableTime(tx.Now()), in.Body.Cursor, maxTried,
		func(id string, l letter) (bool, error) {
			o.Looked++
			next, selected, err := a.apply(ctx, dropped, rules, l)
			switch {
			case err != nil && !aboutLetter(err):
				return false, err
			case errors.Is(err, errCostly):
				return false, err // for all: each would cost as much
			case err != nil:
				if o.Refused++; len(o.Refusals) < maxRefusals {
					o.Refusals = append(o.Refusals, Refusal{id, cut(err)})
				}
				return !rules.tired(), nil
			case !selected:
				return !rules.tired(), nil
			}
			if o.Selected++; next.Mended && string(next.Event) != string(l.Event) {
				o.Changed++
			}
			if n := len(l.Event) + len(next.Event); len(o.Examples) < maxExamples && size+n <= exampleBytes {
				size += n
				o.Examples = append(o.Examples, Example{
					ID: id, Function: l.Function, Type: l.Type, Before: dataOf(l.Event), After: dataOf(next.Event),
				})
			}
			return !rules.tired(), nil
		})
	if left {
		o.Next = cursor
	}
	return out, err
}

// dataOf returns the data of an event in JSON; nil when it is none.
func dataOf(raw json.RawMessage) json.RawMessage {
	var e struct {
		Data json.RawMessage `json:"data"`
	}
	_ = json.Unmarshal(raw, &e) // it was written by the archive
	return e.Data
}

// serveMends declares the operations of mends.
func (a *archive) serveMends(f *function.Function, look, act function.Access) {
	op := func(method, below, summary, description string) function.Operation {
		o := function.Operation{
			Method: method, Path: "/api/archive/mends" + below, Summary: summary, Description: description, Access: look,
		}
		if method == http.MethodPost {
			o.Access = act
		}
		return o
	}
	start := op(http.MethodPost, "", "Mend dead letters and send them again",
		"All that wait and are selected, the oldest first, in batches of 1, 10, 100 and so on. It waits after each batch, "+
			"and stops when one that it has sent fails again.")
	start.Status = http.StatusAccepted
	function.Serve(f, start, a.startMend)
	try := op(http.MethodPost, "/dry-run", "Try what a mend would do", "It changes nothing. Long lists come in pages.")
	try.Access, try.Idempotency = look, function.Off
	function.Serve(f, try, a.dryRun)
	function.Serve(f, op(http.MethodGet, "", "List mends, newest first", ""), a.listMends)
	function.Serve(f, op(http.MethodGet, "/{id}", "Show how far a mend is", ""), a.getMend)
	function.Serve(f, op(http.MethodPost, "/{id}/stop", "Stop a mend", "What it has sent stays sent."), a.stopMend)
	function.Serve(f, op(http.MethodPost, "/{id}/continue", "Continue a mend that has stopped",
		"After the last dead letter that it has looked at, in batches from 1 on."), a.continueMend)
}
