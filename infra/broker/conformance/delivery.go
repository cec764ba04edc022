package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	sectionDelivery = "Knative Broker, Data Plane: delivery"
	sectionRetry    = "Knative data plane: event acknowledgement and delivery retry"
	sectionBackoff  = "Knative DeliverySpec: retry, backoff, timeout, Retry-After"
	sectionTrace    = "Knative data plane: observability"
)

func deliveryCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial), needs ...Feature) Case {
		return Case{ID: id, Section: sectionDelivery, Level: level, Sentence: sentence, run: run, Needs: needs}
	}
	return []Case{
		c("delivery-post", Must, "a delivery is a POST of a CloudEvent in the binary or the structured mode", deliveryPost),
		c("delivery-attributes", Should, "all attributes of the producer arrive unchanged", deliveryAttributes),
		c("delivery-data", Should, "the data arrives unchanged: JSON, text, bytes, or none", deliveryData),
		c("delivery-all-triggers", Should, "an event is delivered to every trigger whose filters it passes", deliveryAll),
		c("delivery-same-subscriber", Must, "two triggers with the same subscriber are two deliveries", deliverySame),
		c("delivery-once", Should, "an event whose delivery succeeded is not delivered again", deliveryOnce),
		c("delivery-slow", Should, "a subscriber that is slow or fails holds up no other", deliverySlow),
		c("delivery-many", Should, "many events at once all arrive", deliveryMany),
		c("delivery-order", Convention, "events of one partitionkey arrive in order, also when one of them is tried again",
			deliveryOrder, Order),
	}
}

func deliveryPost(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("datacontenttype", "application/json", "data", `{}`)
	t.send(m)
	d := t.one(k, m.id())
	t.check(d.method == http.MethodPost, "POST", "%s", d.method)
	structured := strings.HasPrefix(d.header.Get("Content-Type"), structuredType)
	t.check(structured || d.header.Get("Ce-Specversion") != "", "ce-specversion, or "+structuredType, "%v", d.header)
}

func deliveryAttributes(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("subject", "orders/42", "time", "2024-02-29T01:02:03.456789Z", "dataschema",
		"https://example.com/schema#x",
		"datacontenttype", "application/json", "data", `{}`, "partitionkey", "42", "sequence", "0007", "flag", "true",
		"number", "-5")
	t.send(m)
	t.checkSame(m, t.one(k, m.id()))
	n := t.event().with("number", 7, "flag", true, "source", "https://example.com/a?b=c#d")
	t.sendStructured(n)
	t.checkSame(n, t.one(k, n.id()))
}

func deliveryData(t *trial) {
	k := t.subscribe(nil, nil)
	for _, m := range []message{
		t.event().with("datacontenttype", "application/json", "data", `{"text":"Größe","list":[1,2.5,null,true]}`),
		t.event().with("datacontenttype", "text/plain; charset=utf-8", "data", "one\ntwo\r\n\tGröße"),
		t.event().with("datacontenttype", "application/octet-stream", "data", "\x00\x01\xfe\xff"),
		t.event().with("datacontenttype", "application/json", "data", `"just a string"`),
	} {
		t.send(m)
		t.checkSame(m, t.one(k, m.id()))
	}
	none := t.event()
	t.send(none)
	got := t.one(k, none.id()).event.Data()
	t.check(len(got) == 0, "no data", "%q", got)
}

func deliveryAll(t *trial) {
	sinks := make([]*sink, 3)
	each(t, []int{0, 1, 2}, func(i int) { sinks[i] = t.subscribe(nil, nil) })
	m := t.event()
	t.send(m)
	for _, k := range sinks {
		t.one(k, m.id())
	}
}

func deliverySame(t *trial) {
	k := t.subscribe(nil, nil)
	if err := t.create(Trigger{Sink: k.url, Filters: []Filter{t.ours()}}); err != nil {
		t.stop("a second trigger with the same subscriber", "%v", err)
	}
	m := t.event()
	t.send(m)
	t.await(k, m.id(), 2)
}

func deliveryOnce(t *trial) {
	k := t.subscribe(nil, retries(3))
	var all []message
	for range 5 {
		all = append(all, t.event())
		t.send(all[len(all)-1])
	}
	for _, m := range all {
		t.await(k, m.id(), 1)
	}
	t.waitQuiet()
	for _, m := range all {
		n := k.count(m.id())
		t.check(n == 1, "one delivery", "%d", n)
	}
}

func deliverySlow(t *trial) {
	slow := t.subscribe(func(*delivery) answer { return answer{hang: true} }, nil)
	failing := t.subscribe(always(503), retries(1))
	quick := t.subscribe(nil, nil)
	first := t.event()
	t.send(first)
	t.await(slow, first.id(), 1)
	t.await(failing, first.id(), 1)
	second := t.event()
	t.send(second)
	t.one(quick, first.id())
	t.one(quick, second.id())
}

func deliveryMany(t *trial) {
	k := t.subscribe(nil, nil)
	all := make([]message, 50)
	for i := range all {
		all[i] = t.event().with("subject", fmt.Sprint(i))
	}
	each(t, all, t.send)
	for _, m := range all {
		t.one(k, m.id())
	}
}

func deliveryOrder(t *trial) {
	k := t.subscribe(func(d *delivery) answer {
		if d.event != nil && d.event.Subject() == "2" && d.attempt < 3 {
			return answer{status: 503}
		}
		return answer{}
	}, retries(5))
	for i := range 6 {
		t.send(t.event().with("partitionkey", t.run, "subject", fmt.Sprint(i)))
	}
	got := t.await(k, "", 8)
	var order []string
	for _, d := range got {
		order = append(order, d.event.Subject())
	}
	text := strings.Join(order, " ")
	t.check(text == "0 1 2 2 2 3 4 5", "0 1 2 2 2 3 4 5", "%s", text)
}

// retryCases returns a case for each status in the data plane's table: tried again, final, or done.
func retryCases() []Case {
	var cases []Case
	for _, row := range []struct {
		level    Level
		statuses []int
		sentence string
		run      func(*trial, int)
	}{
		{Must, []int{404, 409, 429, 500, 502, 503, 504},
			"%d is tried again, as often as retry says, and then is a dead letter", statusRetried},
		{Convention, []int{408}, "%d is tried again, as often as retry says, and then is a dead letter", statusRetried},
		{Should, []int{599}, "%d, as any other 5xx, is tried again", statusRetried},
		{Must, []int{400}, "%d is not tried again, and is a dead letter", statusFinal},
		{Must, []int{401, 403, 405, 410, 413, 415, 422, 451},
			"%d, as any other 4xx, is not tried again, and is a dead letter", statusFinal},
		{Must, []int{300, 304}, "%d, as any other 3xx, is an error that is not tried again", statusFinal},
		{Must, []int{200, 201, 202, 204, 206, 299}, "%d completes the delivery", statusDone},
	} {
		for _, status := range row.statuses {
			cases = append(cases, Case{ID: fmt.Sprintf("status-%d", status), Section: sectionRetry, Level: row.level,
				Sentence: fmt.Sprintf(row.sentence, status), run: func(t *trial) { row.run(t, status) }})
		}
	}
	return append(cases,
		Case{ID: "redirect", Section: sectionRetry, Level: Must,
			Sentence: "a redirect is an error: it is not followed, and the event is a dead letter", run: redirect},
		Case{ID: "no-answer", Section: sectionRetry, Level: Should,
			Sentence: "a delivery whose connection breaks without an answer is tried again", run: noAnswer},
		Case{ID: "no-answer-dead", Section: sectionRetry, Level: Must,
			Sentence: "an event whose every delivery breaks without an answer is a dead letter", run: noAnswerDead},
		Case{ID: "retry-succeeds", Section: sectionRetry, Level: Must,
			Sentence: "an event that is tried again, and then taken, is done: no dead letter", run: retrySucceeds},
		Case{ID: "retry-same", Section: sectionRetry, Level: Must,
			Sentence: "every attempt carries the same source, id, type and data", run: retrySame},
	)
}

// failing sends an event to a subscriber with the script and waits for its dead letter.
func (t *trial) failing(s script, d *Delivery) (m message, tries []*delivery, dead *delivery) {
	deadLetters := t.deadLetterSink(nil)
	k := t.subscribe(s, d.deadTo(deadLetters))
	m = t.event().with("subject", "s", "datacontenttype", "application/json", "data", `{"n":1}`)
	t.send(m)
	dead = t.one(deadLetters, m.id())
	tries, _ = k.deliveries(m.id())
	return m, tries, dead
}

func statusRetried(t *trial, status int) {
	_, tries, _ := t.failing(always(status), retries(2))
	t.check(len(tries) == 3, "3 attempts with retry 2", "%d", len(tries))
}

func statusFinal(t *trial, status int) {
	_, tries, _ := t.failing(always(status), retries(2))
	t.check(len(tries) == 1, "1 attempt", "%d", len(tries))
}

// statusDone sends a second event that fails, and waits for its dead letter: by then a dead letter of the first event
// would have arrived too.
func statusDone(t *trial, status int) {
	dead := t.deadLetterSink(nil)
	k := t.subscribe(func(d *delivery) answer {
		if d.event != nil && d.event.Subject() == "last" {
			return answer{status: http.StatusBadRequest}
		}
		return answer{status: status}
	}, retries(2).deadTo(dead))
	m, last := t.event(), t.event().with("subject", "last")
	t.send(m)
	t.await(k, m.id(), 1)
	t.send(last)
	t.await(dead, last.id(), 1)
	t.waitQuiet()
	n := k.count(m.id())
	t.check(n == 1, "1 attempt", "%d", n)
	t.never(dead, m.id(), "no dead letter")
}

func redirect(t *trial) {
	elsewhere := t.sink(nil)
	_, tries, _ := t.failing(func(*delivery) answer {
		return answer{status: http.StatusTemporaryRedirect, header: map[string]string{"Location": elsewhere.url}}
	}, retries(1))
	t.check(len(tries) == 1, "1 attempt", "%d", len(tries))
	t.never(elsewhere, "", "no request at the redirect's target")
}

func noAnswer(t *trial) {
	k := t.subscribe(inTurn(answer{abort: true}, answer{}), retries(3))
	m := t.event()
	t.send(m)
	t.await(k, m.id(), 2)
}

func noAnswerDead(t *trial) {
	_, tries, _ := t.failing(func(*delivery) answer { return answer{abort: true} }, retries(1))
	t.check(len(tries) >= 2, "2 attempts with retry 1, or more", "%d", len(tries))
}

func retrySucceeds(t *trial) {
	dead := t.deadLetterSink(nil)
	k := t.subscribe(inTurn(answer{status: 503}, answer{status: 500}, answer{status: 202}), retries(5).deadTo(dead))
	m := t.event()
	t.send(m)
	t.await(k, m.id(), 3)
	t.waitQuiet()
	n := k.count(m.id())
	t.check(n == 3, "3 attempts", "%d", n)
	t.never(dead, "", "no dead letter")
}

func retrySame(t *trial) {
	m, tries, _ := t.failing(always(500), retries(2))
	for _, d := range tries {
		t.checkSame(m, d)
	}
}

func backoffCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial), needs ...Feature) Case {
		return Case{ID: id, Section: sectionBackoff, Level: level, Sentence: sentence, run: run, Needs: needs}
	}
	return []Case{
		c("retry-count", Must, "an event is tried retry+1 times: retry 0, 1 and 4", retryCount),
		c("retry-zero-drops", Must, "with retry 0 and no dead-letter sink an event is tried once", retryDrops),
		c("backoff-linear", Must, "linear backoff waits at least backoffDelay × the number of retries so far",
			backoffLinear),
		c("backoff-exponential", Must, "exponential backoff waits at least backoffDelay × 2^(the number of retries so far)",
			backoffExponential),
		c("timeout", Must, "an attempt that takes longer than timeout has failed, and is tried again", timeout, Timeout),
		c("timeout-dead", Must, "an event whose every attempt takes longer than timeout is a dead letter", timeoutDead,
			Timeout),
		c("retry-after-429", Convention, "429 with Retry-After is not tried again sooner", retryAfterOf(429), RetryAfter),
		c("retry-after-503", Convention, "503 with Retry-After is not tried again sooner", retryAfterOf(503), RetryAfter),
		c("retry-after-date", Convention, "Retry-After may be a date", retryAfterDate, RetryAfter),
		c("retry-after-other", Convention, "Retry-After counts with 429 and 503 only", retryAfterOther, RetryAfter),
		c("retry-after-larger", Convention, "of the backoff and Retry-After the larger counts", retryAfterLarger, RetryAfter),
		c("retry-after-max", Convention, "retryAfterMax bounds what Retry-After may ask for", retryAfterMax, RetryAfter),
		c("retry-after-zero", Convention, "retryAfterMax PT0S has Retry-After ignored", retryAfterZero, RetryAfter),
		c("delivery-refused", Should,
			"an invalid delivery is refused: a negative retry, an unknown backoff policy, a delay that is no ISO 8601 "+
				"duration", deliveryRefused),
	}
}

func retryCount(t *trial) {
	each(t, []int{0, 1, 4}, func(n int) {
		dead := t.deadLetterSink(nil)
		k := t.subscribe(always(500), retries(n).deadTo(dead), exact("subject", fmt.Sprint(n)))
		m := t.event().with("subject", fmt.Sprint(n))
		t.send(m)
		t.one(dead, m.id())
		got := k.count(m.id())
		t.check(got == n+1, fmt.Sprintf("%d attempts with retry %d", n+1, n), "%d", got)
	})
}

func retryDrops(t *trial) {
	k := t.subscribe(always(500), retries(0))
	m := t.event()
	t.send(m)
	t.await(k, m.id(), 1)
	t.waitQuiet()
	n := k.count(m.id())
	t.check(n == 1, "1 attempt", "%d", n)
}

// gaps returns the times between attempts.
func gaps(tries []*delivery) (out []time.Duration) {
	for i := 1; i < len(tries); i++ {
		out = append(out, tries[i].at.Sub(tries[i-1].at))
	}
	return out
}

// slack is how much shorter a measured wait may be, because clocks and network delays vary.
const slack = 20 * time.Millisecond

func (t *trial) checkWaits(tries []*delivery, least ...time.Duration) {
	waits := gaps(tries)
	if len(waits) != len(least) {
		t.stop(fmt.Sprintf("%d attempts", len(least)+1), "%d", len(tries))
	}
	for i, wait := range waits {
		t.check(wait >= least[i]-slack, fmt.Sprintf("at least %v before retry %d", least[i], i+1), "%v", wait)
	}
}

func backoffLinear(t *trial) {
	d := &Delivery{Retry: ptr(3), BackoffPolicy: "linear", BackoffDelay: "PT0.2S"}
	_, tries, _ := t.failing(always(500), d)
	t.checkWaits(tries, 0, 200*time.Millisecond, 400*time.Millisecond)
}

func backoffExponential(t *trial) {
	d := &Delivery{Retry: ptr(3), BackoffPolicy: "exponential", BackoffDelay: "PT0.2S"}
	_, tries, _ := t.failing(always(500), d)
	t.checkWaits(tries, 200*time.Millisecond, 400*time.Millisecond, 800*time.Millisecond)
}

func timeout(t *trial) {
	d := retries(2)
	d.Timeout = "PT1S"
	k := t.subscribe(inTurn(answer{hang: true}, answer{}), d)
	m := t.event()
	sent := time.Now()
	t.send(m)
	tries := t.await(k, m.id(), 2)
	// The timeout starts with the broker's request, which may arrive here much later on a busy machine. So the wait is
	// measured from the event.
	wait := tries[1].at.Sub(sent)
	t.check(wait >= time.Second-slack, "at least 1s from the event to retry 1", "%v", wait)
}

func timeoutDead(t *trial) {
	d := retries(1)
	d.Timeout = "PT1S"
	_, tries, _ := t.failing(func(*delivery) answer { return answer{hang: true} }, d)
	t.check(len(tries) == 2, "2 attempts with retry 1", "%d", len(tries))
}

// retryAfter answers once with Retry-After, then accepts the event. It returns both deliveries.
func (t *trial) retryAfter(status int, after string, d *Delivery) []*delivery {
	k := t.subscribe(inTurn(answer{status: status, header: map[string]string{"Retry-After": after}}, answer{}), d)
	m := t.event()
	t.send(m)
	return t.await(k, m.id(), 2)[:2]
}

// patient returns a delivery that waits as Retry-After asks, up to max.
func patient(max string) *Delivery {
	d := retries(3)
	d.RetryAfterMax = max
	return d
}

func retryAfterOf(status int) func(*trial) {
	return func(t *trial) { t.checkWaits(t.retryAfter(status, "2", patient("PT30S")), 2*time.Second) }
}

// retryAfterDate asks for three seconds. A date has no fractions of a second, so the wait may be up to a second
// shorter.
func retryAfterDate(t *trial) {
	k := t.subscribe(func(d *delivery) answer {
		if d.attempt > 1 {
			return answer{}
		}
		return answer{status: 503,
			header: map[string]string{"Retry-After": time.Now().Add(3 * time.Second).UTC().Format(http.TimeFormat)}}
	}, patient("PT30S"))
	m := t.event()
	t.send(m)
	t.checkWaits(t.await(k, m.id(), 2)[:2], 1500*time.Millisecond)
}

func retryAfterOther(t *trial) { t.sooner(t.retryAfter(500, "60", patient("PT120S"))) }

// sooner checks that a retry did not wait for what was asked for. It would not have come in the time of a trial.
func (t *trial) sooner(tries []*delivery) {
	wait := gaps(tries)[0]
	t.check(wait < t.patience(), "no wait of a minute", "%v", wait)
}

func retryAfterLarger(t *trial) {
	d := patient("PT30S")
	d.BackoffPolicy, d.BackoffDelay = "exponential", "PT1.5S"
	t.checkWaits(t.retryAfter(503, "1", d), 1500*time.Millisecond)
}

func retryAfterMax(t *trial) {
	tries := t.retryAfter(503, "60", patient("PT1S"))
	t.checkWaits(tries, time.Second)
	t.sooner(tries)
}

func retryAfterZero(t *trial) { t.sooner(t.retryAfter(503, "60", patient("PT0S"))) }

func deliveryRefused(t *trial) {
	for what, d := range map[string]*Delivery{
		"retry -1":                  {Retry: ptr(-1)},
		"backoffPolicy quadratic":   {Retry: ptr(1), BackoffPolicy: "quadratic", BackoffDelay: "PT1S"},
		"backoffDelay 'one second'": {Retry: ptr(1), BackoffPolicy: "linear", BackoffDelay: "one second"},
	} {
		err := t.create(Trigger{Sink: t.sink(nil).url, Filters: []Filter{t.ours()}, Delivery: d})
		t.check(refused(err), what+" is refused", "%v", err)
	}
}

func traceCases() []Case {
	return []Case{
		{ID: "trace-delivery", Section: sectionTrace, Level: Should, Sentence: "the trace of an event is kept on delivery",
			run: traceDelivery},
		{ID: "trace-reply", Section: sectionTrace, Level: Should,
			Sentence: "the trace of an event is kept on its reply, unless the reply has one of its own", run: traceReply},
	}
}

const traceID = "0af7651916cd43dd8448eb211c80319c"

func traceDelivery(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	t.send(m)
	t.checkTrace(t.one(k, m.id()))
}

// checkTrace looks for the trace id in the attribute and in the W3C header field. The span id may differ.
func (t *trial) checkTrace(d *delivery) {
	attribute, _ := d.text("traceparent")
	header := d.header.Get("Traceparent")
	t.check(strings.Contains(attribute+header, traceID), "trace "+traceID, "attribute %q, header field %q", attribute,
		header)
}

func traceReply(t *trial) {
	reply := t.event().with("type", t.typ()+".reply")
	replies := t.subscribeTo(nil, Trigger{Filters: []Filter{exact("type", t.typ()+".reply")}})
	t.subscribe(func(*delivery) answer { return reply.answer() }, nil)
	t.send(t.event().with("traceparent", "00-"+traceID+"-b7ad6b7169203331-01"))
	t.checkTrace(t.one(replies, reply.id()))
}
