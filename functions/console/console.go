package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

type console struct {
	title         string
	system        func() manifest.System
	authenticator auth.Authenticator
	log           *slog.Logger
	now           func() time.Time
	api           api
	logs          func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error) // nil: none are kept
	refreshes     refreshes
	followers     followers
}

//go:embed templates static
var files embed.FS

// parsed returns the templates, which are parsed for the first page.
var parsed = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"short": short, "breaks": breaks, "ago": ago, "clock": clockTime, "pretty": pretty, "path": url.PathEscape,
		"script": func() string { return asset("script.js") }, "style": func() string { return asset("style.css") },
	}).ParseFS(files, "templates/*.html"))
})

// asset returns the address of a file of the pages, which changes when the file does.
func asset(name string) string {
	data, _ := files.ReadFile("static/" + name) // it is embedded
	sum := sha256.Sum256(data)
	return base + "/static/" + hex.EncodeToString(sum[:6]) + "/" + name
}

// policy lets a browser use the console's own scripts and styles, send its forms to the console, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxForm is the most bytes of a form: the data of a dead letter, percent-encoded.
const maxForm = 3<<20 + 64<<10

// pageHandler serves a page to a person who is signed in. It writes nothing when it returns an error.
type pageHandler func(w http.ResponseWriter, r *http.Request, p person) error

// handler returns the pages.
func (c *console) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(own bool) func(pattern string, h pageHandler) {
		return func(pattern string, h pageHandler) {
			method, path, _ := strings.Cut(pattern, " ")
			mux.HandleFunc(method+" "+base+path, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, own, h) })
		}
	}
	page, own := handle(false), handle(true)
	mux.HandleFunc("GET "+base, redirect(base+"/sagas"))
	mux.HandleFunc("GET "+base+"/{$}", redirect(base+"/sagas"))
	mux.HandleFunc("GET "+base+"/static/{hash}/{name}", static)
	mux.HandleFunc("GET "+base+"/sign-in", c.signInPage)
	mux.HandleFunc("POST "+base+"/sign-in", c.signIn)
	mux.HandleFunc("POST "+base+"/sign-in/passkey", c.signInWithPasskey)
	mux.HandleFunc("POST "+base+"/sign-in/passkey/options", c.signInOptions)
	mux.HandleFunc("POST "+base+"/sign-out", c.signOut)
	own("GET /account", c.account)
	own("POST /account/proof", c.prove)
	own("POST /account/proof/options", c.proofOptions)
	own("POST /account/passkeys", c.addPasskey)
	own("POST /account/passkeys/options", c.passkeyOptions)
	own("POST /account/passkeys/{id}/{act}", c.actOnPasskey)
	page("GET /sagas", c.sagas)
	page("GET /sagas/{saga}/{id}", c.saga)
	page("POST /sagas/{saga}/{id}/{act}", c.actOnSaga)
	page("GET /dead-letters", c.deadLetters)
	page("GET /dead-letters/{id}", c.deadLetter)
	page("POST /dead-letters/replay", c.replayGroup)
	page("POST /dead-letters/{id}/{act}", c.actOnDeadLetter)
	page("GET /dead-letters/mends", c.mends)
	page("POST /dead-letters/mends", c.startMend)
	page("GET /dead-letters/mends/new", c.newMend)
	page("GET /dead-letters/mends/{id}", c.mend)
	page("POST /dead-letters/mends/{id}/{act}", c.actOnMend)
	page("GET /events", c.events)
	page("GET /events/{id}", c.event)
	page("GET /events/new", c.newEvent)
	page("POST /events/new", c.sendEvent)
	page("GET /live/events", c.followEvents)
	page("GET /trace", c.findTrace)
	page("GET /trace/{id}", c.trace)
	page("GET /map", c.drawMap)
	page("GET /functions", c.functions)
	page("GET /functions/{name}", c.function)
	page("POST /functions/{name}/outbox/{id}/{act}", c.actOnOutbox)
	page("GET /documents", c.documents)
	page("GET /documents/{function}/{collection}", c.collection)
	page("GET /documents/{function}/{collection}/{id}", c.document)
	page("POST /documents/{function}/{collection}/{id}/{act}", c.actOnDocument)
	page("GET /configuration", c.configuration)
	page("GET /flags", c.flags)
	page("GET /flags/{key}", c.flag)
	page("POST /flags/{key}/{act}", c.actOnFlag)
	page("GET /", func(http.ResponseWriter, *http.Request, person) error {
		return &failure{Status: http.StatusNotFound, Detail: "There is no such page."}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, fault.New(fault.NotFound, "nothing is at %s", r.URL.Path))
	})
	same := http.NewCrossOriginProtection()
	return pages{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		r = r.WithContext(r.Context()) // a copy: the gateway may be in this process and read the request later
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if host := r.Header.Get("X-Forwarded-Host"); host != "" {
			r.Host = host // that of the pages: the gateway's request names this function
		}
		same.Handler(mux).ServeHTTP(w, r)
	})}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusSeeOther) }
}

func static(w http.ResponseWriter, r *http.Request) {
	data, err := files.ReadFile("static/" + r.PathValue("name"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	types := map[bool]string{true: "text/css; charset=utf-8", false: "text/javascript; charset=utf-8"}
	w.Header().Set("Content-Type", types[strings.HasSuffix(r.PathValue("name"), ".css")])
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(data)
}

// serve serves a page to a person who is signed in. An error of the page becomes a page. With own the page changes only
// the account of that person, and a viewer may do that too.
func (c *console) serve(w http.ResponseWriter, r *http.Request, own bool, h pageHandler) {
	p, err := c.identify(w, r)
	if err == nil && !p.staff() {
		err = &failure{Status: http.StatusForbidden, Detail: "This account may not use the console."}
	}
	if err == nil && r.Method == http.MethodPost && !own && !p.Acts() {
		err = &failure{Status: http.StatusForbidden, Detail: "This account may look and not change anything."}
	}
	if err == nil && r.Method == http.MethodPost {
		err = readForm(r)
	}
	if err == nil {
		err = h(w, r, p)
	}
	switch status := statusOf(err); {
	case err == nil:
	case errors.Is(err, errSignedOut) || status == http.StatusUnauthorized:
		to := base + "/sign-in"
		if r.Method == http.MethodGet {
			to += "?to=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	default:
		err = c.told(r, err)
		c.show(w, r, p, statusOf(err), "problem", view{Title: http.StatusText(statusOf(err)), Problem: sentence(err)})
	}
}

// readForm reads the form of a request. Without it the fields of one that is too large, or cut off, are empty.
func readForm(r *http.Request) error {
	err := r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &failure{Status: http.StatusRequestEntityTooLarge, Detail: "The form is too large. Nothing is changed."}
	case err != nil:
		return &failure{Status: http.StatusBadRequest, Detail: "The form cannot be read. Nothing is changed."}
	}
	return nil
}

// told returns an error as the person may see it. One that is no answer of the system is logged: it has addresses.
func (c *console) told(r *http.Request, err error) error {
	if statusOf(err) != 0 {
		return err
	}
	c.log.WarnContext(r.Context(), "a page of the console failed", "error", err)
	return &failure{Status: http.StatusBadGateway, Detail: "The gateway does not answer as it should."}
}

// view is what a page shows.
type view struct {
	Title   string
	Problem string // what went wrong
	Notice  string // what was done
	Data    any

	// Set by show.
	Product, Tab string
	Person       person
	Tabs         []tab
}

type tab struct{ Path, Name string }

var tabs = []tab{
	{"sagas", "Sagas"}, {"dead-letters", "Dead letters"}, {"events", "Events"}, {"trace", "Trace"}, {"map", "Map"},
	{"functions", "Functions"}, {"configuration", "Configuration"}, {"documents", "Data"}, {"flags", "Flags"},
	{"account", "Account"},
}

// show writes a page.
func (c *console) show(w http.ResponseWriter, r *http.Request, p person, status int, name string, v view) {
	v.Product, v.Person, v.Tabs = c.title, p, tabs
	v.Tab, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, base+"/"), "/")
	if v.Notice == "" && v.Problem == "" {
		v.Notice = notices[r.URL.Query().Get("done")]
	}
	var b bytes.Buffer
	if err := parsed().ExecuteTemplate(&b, name, v); err != nil {
		c.log.ErrorContext(r.Context(), "a page of the console cannot be written", "error", err)
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// notices says what was done, after the redirect that follows.
var notices = map[string]string{
	"retry": "It was sent again.", "skip": "The step is skipped.", "cancel": "The saga is being undone.",
	"end": "The saga has ended.", "hand-over": "It is handed over.",
	"mend": "The data is mended. Replay it now.", "replay": "It was sent again.",
	"drop": "It is dropped.", "save": "The flag is saved.", "disable": "The flag is off.", "enable": "The flag is on.",
	"remove": "The flag is removed.", "schedule": "The change is scheduled.",
	"unschedule": "The scheduled change is cancelled.", "stop": "It is stopped.", "continue": "It goes on.",
	"keep": "The document is saved.", "delete": "The document is removed.",
	"prove": "It is you. For five minutes you may add and remove passkeys.", "passkey": "The passkey is added.",
	"passkey-rename": "The passkey has another name.", "passkey-remove": "The passkey is removed.",
	"send": "The event is sent. It is listed here when it has arrived, with what it causes.",
}

// done leads back to a page after something was done.
func done(w http.ResponseWriter, r *http.Request, to, what string) error {
	http.Redirect(w, r, to+"?done="+what, http.StatusSeeOther)
	return nil
}

// sentence returns an error as a sentence.
func sentence(err error) string {
	text := err.Error()
	first, size := utf8.DecodeRuneInString(text)
	text = string(unicode.ToUpper(first)) + text[size:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// short returns the name of an event type without the prefix of its namespace.
func short(name string) string {
	parts := strings.Split(name, ".")
	if len(parts) < 4 {
		return name
	}
	return strings.Join(parts[len(parts)-3:len(parts)-1], ".")
}

// clockTime returns a time as pages show it.
func clockTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// ago returns how long ago a time is, or how long it takes to come.
func ago(t, now time.Time) string {
	d, form := now.Sub(t), "%s ago"
	if t.IsZero() {
		return ""
	}
	if d < 0 {
		d, form = -d, "in %s"
	}
	text := d.Round(time.Second).String()
	switch {
	case d > 48*time.Hour:
		text = fmt.Sprintf("%d days", int(d.Hours()/24))
	case d > time.Hour:
		text = fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf(form, text)
}

// pretty returns JSON in lines.
func pretty(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return unescaped.Replace(b.String())
}

// unescaped replaces the escapes of <, > and &, which encoders of JSON write. It replaces an escaped backslash by
// itself, so that it takes no backslash of a text for the begin of an escape.
var unescaped = strings.NewReplacer(`\\`, `\\`, `\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
