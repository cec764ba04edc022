package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

type limits struct {
	Rate  float64 `default:"1.5"`
	Burst uint8
}

type settings struct {
	Addr   string `envconfig:"ADDR" default:":8080" desc:"where to listen"`
	Port   int    `envconfig:"PORT"`
	Dev    bool
	Idle   time.Duration `default:"1m"`
	Store  url.URL       `required:"true" desc:"where the data is"`
	Topics []string
	Sizes  []int
	Level  slog.Level
	Key    string `envconfig:"API_KEY" required:"true" secret:"true"`
	PIN    int    `secret:"true"`
	Limits limits
	Ptr    *int
	Skip   string `ignored:"true"`
}

var good = map[string]string{"EBB_STORE": "postgres://ebb@db/shop", "EBB_API_KEY": "s3cret"}

func with(pairs ...string) Lookup {
	own := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		own[pairs[i]] = pairs[i+1]
	}
	return Overlay(Map(own), nil, Map(good))
}

func TestLoad(t *testing.T) {
	s, err := Load[settings]("EBB", with(
		"EBB_PORT", "81", "EBB_DEV", "true", "EBB_IDLE", "250ms", "EBB_TOPICS", "a,b", "EBB_SIZES", "1,0x10",
		"EBB_LEVEL", "warn", "EBB_LIMITS_RATE", "2.5", "EBB_LIMITS_BURST", "255", "EBB_PTR", "7", "EBB_SKIP", "x",
	))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case s.Addr != ":8080", s.Port != 81, !s.Dev, s.Idle != 250*time.Millisecond, s.Store.Host != "db",
		!slices.Equal(s.Topics, []string{"a", "b"}), !slices.Equal(s.Sizes, []int{1, 16}), s.Level != slog.LevelWarn,
		s.Key != "s3cret", s.Limits != limits{2.5, 255}, s.Ptr == nil || *s.Ptr != 7, s.Skip != "":
		t.Errorf("%+v", s)
	}
}

func TestLoadDefaults(t *testing.T) {
	s, err := Load[settings]("EBB", with("EBB_ADDR", "", "EBB_PORT", ""))
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr != ":8080" || s.Idle != time.Minute || s.Limits.Rate != 1.5 || s.Ptr != nil || s.Port != 0 {
		t.Errorf("%+v", s)
	}
}

func TestLoadTriesThePlatformsName(t *testing.T) {
	for want, lookup := range map[int]Lookup{
		8080: with("PORT", "8080"),
		81:   with("PORT", "8080", "EBB_PORT", "81"),
		8081: with("PORT", "8081", "EBB_PORT", ""),
	} {
		if s, err := Load[settings]("EBB", lookup); err != nil || s.Port != want {
			t.Errorf("port = %d, %v; want %d", s.Port, err, want)
		}
	}
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	_, err := Load[settings]("EBB", Map(map[string]string{
		"PORT": "http", "EBB_DEV": "maybe", "EBB_IDLE": "10", "EBB_STORE": "", "EBB_SIZES": "1,x", "EBB_LEVEL": "loud",
		"EBB_PIN": "12e4x", "EBB_LIMITS_BURST": "256", "EBB_LIMITS_RATE": "fast",
	}))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	want := []string{
		`config: 10 faults`,
		`  PORT is "http", which is not a whole number of 64 bits`,
		`  EBB_DEV is "maybe", which is not true or false`,
		`  EBB_IDLE is "10", which is not a duration such as 250ms or 1m30s`,
		`  EBB_STORE is set but empty; expected a URL: where the data is`,
		`  EBB_SIZES is "1,x", which is not a list, with commas between, of which each is a whole number of 64 bits`,
		`  EBB_LEVEL is "loud": slog: level string "loud": unknown name`,
		`  EBB_API_KEY is required but not set; expected a text`,
		`  EBB_PIN is not a whole number of 64 bits (its value is secret)`,
		`  EBB_LIMITS_RATE is "fast", which is not a number`,
		`  EBB_LIMITS_BURST is "256", which is not a whole number of 8 bits from 0`,
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// hidden is a type whose parser quotes its input.
type hidden struct{}

func (h *hidden) UnmarshalText(b []byte) error { return fmt.Errorf("%q is bad", b) }

func TestViolationsNeverTellASecret(t *testing.T) {
	_, err := Load[struct {
		Number int      `secret:"true"`
		Own    hidden   `secret:"true"`
		DSN    url.URL  // not tagged as a secret
		URLs   []hidden // nor are these
	}]("EBB", Map(map[string]string{
		"EBB_NUMBER": "hunter2", "EBB_OWN": "hunter2",
		"EBB_DSN": "postgres://u:hunter2@%zz/", "EBB_URLS": "amqp://u:hunter2@h",
	}))
	if err == nil || len(err.(*Error).Violations) != 4 {
		t.Fatalf("want four violations: %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret shows: %v", err)
	}
}

func TestEmptyRequiredIsAViolationDespiteADefault(t *testing.T) {
	type s struct {
		Name string `required:"true" default:"x"`
	}
	if got, err := Load[s]("EBB", Map(nil)); err != nil || got.Name != "x" {
		t.Errorf("unset: %+v, %v", got, err)
	}
	if _, err := Load[s]("EBB", Map(map[string]string{"EBB_NAME": ""})); err == nil ||
		!strings.Contains(err.Error(), "EBB_NAME is set but empty") {
		t.Errorf("empty: %v", err)
	}
}

type validated struct {
	Low, High int
}

func (v *validated) Validate() error {
	return errors.Join(
		fmt.Errorf("EBB_LOW must be at least 1"),
		errors.Join(fmt.Errorf("EBB_HIGH must be over EBB_LOW"), fmt.Errorf("LOW_EBB is odd")),
	)
}

func TestLoadValidates(t *testing.T) {
	_, err := Load[validated]("EBB", Map(nil))
	want := "config: 3 faults\n  EBB_LOW must be at least 1\n  EBB_HIGH must be over EBB_LOW\n  LOW_EBB is odd"
	if got := err.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	_, err = Load[validated]("EBB", Map(map[string]string{"EBB_LOW": "x"}))
	want = "config: 2 faults\n  EBB_LOW is \"x\", which is not a whole number of 64 bits\n  LOW_EBB is odd"
	if got := err.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLoadTakesOnlyStructs(t *testing.T) {
	if _, err := Load[int]("EBB", Map(nil)); err == nil {
		t.Error("an int was loaded")
	}
}

func TestUnknown(t *testing.T) {
	known := Names[settings]("EBB")
	err := Unknown(
		"EBB",
		known,
		[]string{"EBB_ADR=:80", "EBB_PORT=1", "EBB_LIMITS_BRUST=3", "EBB_QUITE_ELSE=1", "EBBTIDE=1", "PATH=/bin"},
	)
	want := "config: 3 faults\n" +
		"  EBB_ADR is not a variable that is known; did you mean EBB_ADDR?\n" +
		"  EBB_LIMITS_BRUST is not a variable that is known; did you mean EBB_LIMITS_BURST?\n" +
		"  EBB_QUITE_ELSE is not a variable that is known"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := Unknown("EBB", known, []string{"EBB_ADDR=x"}); err != nil {
		t.Errorf("a known variable: %v", err)
	}
}

func TestJoin(t *testing.T) {
	_, load := Load[struct {
		A int `required:"true"`
	}]("EBB", Map(nil))
	err := Join(nil, load, errors.Join(Unknown("EBB", nil, []string{"EBB_B="}), errors.New("c")))
	if e, ok := err.(*Error); !ok || len(e.Violations) != 3 {
		t.Errorf("%v", err)
	}
	if err := Join(nil, nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestVariables(t *testing.T) {
	all := Variables[settings]("EBB")
	addr := Variable{Name: "EBB_ADDR", Also: "ADDR", Type: "string", Default: ":8080", Desc: "where to listen"}
	if got := all[0]; got != addr {
		t.Errorf("%+v", got)
	}
	key := Variable{Name: "EBB_API_KEY", Also: "API_KEY", Type: "string", Required: true, Secret: true}
	if got := all[8]; got != key {
		t.Errorf("%+v", got)
	}
}

func TestEffective(t *testing.T) {
	s, err := Load[settings](
		"EBB",
		with("EBB_STORE", "postgres://ebb:hunter2@db/shop", "EBB_TOPICS", "a,nats://u:hunter2@h", "EBB_PORT", "81"),
	)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, a := range Effective(s) {
		lines = append(lines, a.String())
	}
	got := strings.Join(lines, "\n")
	want := strings.Join([]string{
		"addr=:8080", "port=81", "dev=false", "idle=1m0s", "store=postgres://ebb:xxxxx@db/shop", "topics=a,nats://u:xxxxx@h",
		"sizes=[]", "level=INFO", "api_key=***", "pin=", "limits_rate=1.5", "limits_burst=0", "ptr=",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if attrs := Effective(&s); len(attrs) != len(lines) {
		t.Errorf("of a pointer: %v", attrs)
	}
	if attrs := Effective("text"); attrs != nil {
		t.Errorf("of a text: %v", attrs)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("EBB_CONFIG_TEST", "x")
	if v, ok := Environment("EBB_CONFIG_TEST"); !ok || v != "x" {
		t.Errorf("%q, %v", v, ok)
	}
}

// Any value that an environment can have is loaded unchanged.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"a", "`\"\\", "a b:\"c\"", "\xff\n\t", "é"} {
		f.Add(seed)
	}
	type text struct{ V string }
	f.Fuzz(func(t *testing.T, value string) {
		got, err := Load[text]("P", Map(map[string]string{"P_V": value}))
		if err != nil || got.V != value {
			t.Fatalf("%q became %q, %v", value, got.V, err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load[settings]("EBB", Map(good)); err != nil {
			b.Fatal(err)
		}
	}
}
