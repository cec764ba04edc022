package conformance

import (
	"encoding/base64"
	"net/http"
	"strings"
)

const (
	sectionDead  = "Knative event delivery: dead letters"
	sectionReply = "Knative data plane: derived (reply) events"
)

func deadLetterCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial)) Case {
		return Case{ID: id, Section: sectionDead, Level: level, Sentence: sentence, run: run}
	}
	return []Case{
		c("dead-same", Must, "a dead letter has the attributes and the data of the event", deadSame),
		c("dead-dest", Convention, "knativeerrordest of a dead letter names the subscriber that failed", deadDest),
		c("dead-code", Convention, "knativeerrorcode of a dead letter is the last status", deadCode),
		c("dead-data", Convention, "knativeerrordata of a dead letter holds the answer's body", deadData),
		c("dead-data-any", Convention, "an answer of several lines, of any length, still leaves a dead letter", deadDataAny),
		c("dead-sink-retried", Convention, "a delivery to a dead-letter sink that fails is tried again", deadRetried),
		c("dead-each-trigger", Must, "a trigger's dead letters go to its own sink only", deadEach),
	}
}

func deadSame(t *trial) {
	m, _, dead := t.failing(always(400), retries(0))
	t.checkSame(m, dead)
}

func (t *trial) checkAttribute(d *delivery, name, want string) {
	got, _ := d.text(name)
	t.check(got == want, name+" "+want, "%q", got)
}

func deadDest(t *trial) {
	dead := t.deadLetterSink(nil)
	k := t.subscribe(always(400), retries(0).deadTo(dead))
	m := t.event()
	t.send(m)
	dest, _ := t.one(dead, m.id()).text("knativeerrordest")
	t.check(strings.TrimSuffix(dest, "/") == k.url, "knativeerrordest "+k.url, "%q", dest)
}

func deadCode(t *trial) {
	_, _, dead := t.failing(inTurn(answer{status: 503}, answer{status: 422}), retries(3))
	t.checkAttribute(dead, "knativeerrorcode", "422")
}

// deadData accepts base64 too, because some brokers write it.
func deadData(t *trial) {
	const why = "no-such-customer"
	_, _, dead := t.failing(func(*delivery) answer { return answer{status: 422, body: why} }, retries(0))
	got, _ := dead.text("knativeerrordata")
	plain, err := base64.StdEncoding.DecodeString(got)
	t.check(strings.Contains(got, why) || err == nil && strings.Contains(string(plain), why), "knativeerrordata "+why,
		"%q", got)
}

func deadDataAny(t *trial) {
	body := "<html>\r\n\t<h1>405 \"Größe\"</h1>\r\n" + strings.Repeat("x", 20_000) + "\x00"
	m, _, dead := t.failing(func(*delivery) answer { return answer{status: 405, body: body} }, retries(0))
	t.checkSame(m, dead)
}

func deadRetried(t *trial) {
	dead := t.deadLetterSink(inTurn(answer{status: 503}, answer{}))
	t.subscribe(always(400), retries(3).deadTo(dead))
	m := t.event()
	t.send(m)
	t.await(dead, m.id(), 2)
}

func deadEach(t *trial) {
	dead := []*sink{t.deadLetterSink(nil), t.deadLetterSink(nil)}
	t.subscribe(always(400), retries(0).deadTo(dead[0]))
	t.subscribe(nil, retries(0).deadTo(dead[1]))
	m := t.event()
	t.send(m)
	t.one(dead[0], m.id())
	t.waitQuiet()
	t.never(dead[1], "", "no dead letter for a trigger whose subscriber accepted the event")
}

func replyCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial)) Case {
		return Case{ID: id, Section: sectionReply, Level: level, Sentence: sentence, run: run}
	}
	return []Case{
		c("reply-prefer", Must, "a delivery to a subscriber has Prefer: reply", replyPrefer),
		c("reply-binary", Must, "200 with an event in the binary mode publishes that event", replyBinary),
		c("reply-structured", Must, "200 with an event in the structured mode publishes that event", replyStructured),
		c("reply-filtered", Should,
			"a reply is treated as if it had been produced at the ingress: it reaches those triggers that it "+
				"passes", replyFiltered),
		c("reply-202", Must, "202 with an event publishes nothing", reply202),
		c("reply-error", Must, "an event in an answer that is no success publishes nothing", replyError),
		c("reply-malformed", Should, "an event in an answer that is malformed is a failed delivery", replyMalformed),
		c("reply-no-event", Should, "an answer 200 with a body that is no event is a failed delivery", replyNoEvent),
		c("reply-refused", Should, "the event is delivered again when its reply is not accepted", replyRefused),
	}
}

// answer returns an answer with the message as a reply in the binary mode.
func (m message) answer() answer {
	h, body := m.binary()
	a := answer{status: http.StatusOK, body: body, header: map[string]string{}}
	for name := range h {
		a.header[name] = h.Get(name)
	}
	if body == "" {
		a.header["Content-Length"] = "0"
	}
	return a
}

func replyPrefer(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event()
	t.send(m)
	prefer := t.one(k, m.id()).header.Values("Prefer")
	t.check(strings.Contains(strings.ToLower(strings.Join(prefer, ",")), "reply"), "Prefer: reply", "%q", prefer)
}

// replying makes two subscribers: asked gives the answer to every delivery, replies receives events of the reply's
// type.
func (t *trial) replying(reply message, a answer, d *Delivery) (asked *sink, replies *sink) {
	replies = t.subscribeTo(nil, Trigger{Filters: []Filter{exact("type", reply["type"].(string))}})
	return t.subscribe(func(*delivery) answer { return a }, d), replies
}

func (t *trial) reply() message {
	return t.event().with("type", t.typ()+".reply", "datacontenttype", "application/json", "data", `{"reply":true}`,
		"myext", "kept")
}

func (m message) structured() answer {
	return answer{status: http.StatusOK, header: map[string]string{"Content-Type": structuredType}, body: m.json()}
}

func replyBinary(t *trial) {
	reply := t.reply()
	_, replies := t.replying(reply, reply.answer(), nil)
	t.send(t.event())
	t.checkSame(reply, t.one(replies, reply.id()))
}

func replyStructured(t *trial) {
	reply := t.reply()
	_, replies := t.replying(reply, reply.structured(), nil)
	t.send(t.event())
	t.checkSame(reply, t.one(replies, reply.id()))
}

func replyFiltered(t *trial) {
	reply := t.reply()
	_, replies := t.replying(reply, reply.answer(), nil)
	other := t.subscribeTo(nil, Trigger{Filters: []Filter{exact("type", t.typ()+".reply"), exact("myext", "other")}})
	t.send(t.event())
	t.one(replies, reply.id())
	t.waitQuiet()
	t.never(other, reply.id(), "a reply that does not pass a trigger is not delivered to it")
}

// publishesNothing checks that the event in the answer is not published. It waits for a later event of the reply's
// type.
func (t *trial) publishesNothing(a answer) {
	reply := t.reply()
	a.body, a.header = reply.structured().body, reply.structured().header
	asked, replies := t.replying(reply, a, retries(0))
	m, control := t.event(), t.event().with("type", t.typ()+".reply")
	t.send(m)
	t.await(asked, m.id(), 1)
	t.waitQuiet()
	t.send(control)
	t.await(replies, control.id(), 1)
	t.waitQuiet()
	t.never(replies, reply.id(), "no reply is published")
}

func reply202(t *trial)   { t.publishesNothing(answer{status: http.StatusAccepted}) }
func replyError(t *trial) { t.publishesNothing(answer{status: http.StatusBadRequest}) }

func replyMalformed(t *trial) {
	reply := t.reply()
	for _, a := range []answer{
		reply.with("type", nil).answer(),
		{status: http.StatusOK, header: map[string]string{"Content-Type": structuredType}, body: "{"},
	} {
		t.failing(func(*delivery) answer { return a }, retries(1))
	}
}

func replyNoEvent(t *trial) {
	t.failing(func(*delivery) answer {
		return answer{status: http.StatusOK, header: map[string]string{"Content-Type": "text/plain"}, body: "thank you"}
	}, retries(1))
}

// replyRefused first answers with an event that the ingress must refuse, and on the retry without one.
func replyRefused(t *trial) {
	bad := t.reply().with("id", "")
	k := t.subscribe(inTurn(bad.structured(), answer{}), retries(3))
	m := t.event()
	t.send(m)
	t.await(k, m.id(), 2)
}
