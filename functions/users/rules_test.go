package users_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/fault"
)

func TestAddresses(t *testing.T) {
	for email, good := range map[string]bool{
		"ada@example.com":        true,
		"  Ada@Example.COM ":     true,
		"ada+books@example.com":  true,
		"o'neill/x@example.com":  true,
		"ädä@exämple.de":         true,
		"":                       false,
		"ada":                    false,
		"@example.com":           false,
		"ada@":                   false,
		"ada@@example.com":       false,
		"ada lovelace@x.org":     false,
		"Ada <ada@example.com>":  false,
		"<ada@example.com>":      false,
		`"ada l"@example.com`:    false,
		"ada@example.com,b@c.de": false,
		"ada@[127.0.0.1]":        false,
		"ada@example.com\x00":    false,
		"ada@exam\nple.com":      false,
		strings.Repeat("a", 60) + "@" + strings.Repeat("b", 200) + ".com": false,
	} {
		if got := users.EmailFaults(email) == 0; got != good {
			t.Errorf("%q: acceptable %v, want %v", email, got, good)
		}
	}
	if got := users.Normalise("  Ada@Example.COM "); got != "ada@example.com" {
		t.Errorf("got %q", got)
	}
}

// Spellings of one address are one address: composed and decomposed characters, a domain in Unicode and in Punycode.
func TestSpellingsOfAnAddress(t *testing.T) {
	for canonical, spellings := range map[string][]string{
		"ada@bücher.example": {
			"ada@xn--bcher-kva.example", "Ada@XN--BCHER-KVA.example", "ada@bu\u0308cher.example", "ADA@BÜCHER.EXAMPLE",
		},
		"zoë@example.com": {"zoe\u0308@example.com", "ZOË@example.com"},
		"a@my_host":       {"A@MY_HOST"}, // no name of the DNS, and left as it is
		"no-address":      {"No-Address"},
		"":                {" "},
	} {
		for _, spelling := range append(spellings, canonical) {
			if got := users.Normalise(spelling); got != canonical {
				t.Errorf("%q becomes %q, want %q", spelling, got, canonical)
			}
			if got := users.Normalise(users.Normalise(spelling)); got != canonical {
				t.Errorf("%q becomes %q at the second time, want %q", spelling, got, canonical)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"Ada": true, "李": true, strings.Repeat("ä", 200): true,
		"": false, strings.Repeat("a", 201): false, "A\x07da": false,
	} {
		if got := users.NameFaults(name) == 0; got != good {
			t.Errorf("name %q: acceptable %v, want %v", name, got, good)
		}
	}
}

// New passwords are as NIST SP 800-63B-4 asks: long, of any characters, and not one that is guessed first.
func TestPasswords(t *testing.T) {
	for password, good := range map[string]bool{
		"with some blanks": true, "837261549203847": true, "zzxxcvvbnmlkjhg": true, "päßwörterbuchstaben": true,
		strings.Repeat("a good one ", 6)[:64]: true, strings.Repeat("0123456789abcdeX", 8): true,
		strings.Repeat("qw ertzu iöä", 9) + "x":       true,
		"a password for Ada":                          true, // what is common or the user's is within it, and more besides
		"\U0001F600\U0001F601\U0001F680 fünf sechs!!": true,

		"": false, "with few chars": false, strings.Repeat("so many letters", 9): false, "not valid UTF-8\xff": false,
		"aaaaaaaaaaaaaaaa": false, "abcabcabcabcabc": false, "passwordpassword": false, "QWERTYUIOPqwertyuiop": false,
		"123456789012345": false, "abcdefghijklmnop": false, "543210987654321": false,
		"1qaz2wsx3edc4rfv": false, "1qaz2wsx3edc4rfv!": false,
		"ada lovelace 26": false, "AdaLovelaceAda1": false, "ada.l@bücher.example": false, "lovelace_password": false,
		"ebb ebb ebb ebb": false, "bücher.example!!": false,
	} {
		if got := users.PasswordFaults(password) == 0; got != good {
			t.Errorf("password %q: acceptable %v, want %v", password, got, good)
		}
	}
	if !users.Common("trustno1") || users.Common("a password that no list has") {
		t.Error("the filter of common passwords is not that of cmd/passwords")
	}
}

// A password is the same in composed and in decomposed characters, as keyboards differ in what they send. One that was
// hashed as it was typed, by a version from before, still signs in.
func TestSpellingsOfAPassword(t *testing.T) {
	const composed, apart = "zoë and the battery", "zoe\u0308 and the battery"
	now, err := users.HashOnce(composed)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := users.Hash(apart)
	for _, c := range []struct {
		password, stored string
		want             bool
	}{{composed, now, true}, {apart, now, true}, {apart, before, true}, {composed, before, false}, {"zoe", now, false}} {
		if got, err := users.MatchesOnce(c.password, c.stored); got != c.want || err != nil {
			t.Errorf("%q: got %v, %v", c.password, got, err)
		}
	}
}

func TestHashes(t *testing.T) {
	phc, err := users.Hash("correct horse battery")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("got %q, %v", phc, err)
	}
	for password, want := range map[string]bool{"correct horse battery": true, "correct horsf": false, "": false} {
		if got, err := users.Matches(password, phc); got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", password, got, err, want)
		}
	}
	// The decoy costs as much as a real one and is nobody's.
	if ok, err := users.Matches("", users.Decoy()); ok || err != nil || users.Outdated(users.Decoy()) {
		t.Errorf("the decoy: got %v, %v", ok, err)
	}
	// A hash of other parameters is still checked by those, and known to be old. From the argon2 reference test vectors.
	const old = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	if ok, err := users.Matches("password", old); !ok || err != nil || !users.Outdated(old) {
		t.Errorf("an old hash: got %v, %v", ok, err)
	}
	for _, bad := range []string{
		"", "plain", strings.Replace(phc, "argon2id", "argon2i", 1), strings.Replace(phc, "v=19", "v=16", 1),
		strings.Replace(phc, "m=19456", "m=99999999", 1), strings.Replace(phc, "t=2", "t=0", 1), phc + "$", phc[:len(phc)-4],
	} {
		if _, err := users.Matches("correct horse battery", bad); !fault.Is(err, fault.Internal) || err == nil {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// The handler may run again, the hash is made once.
func TestOneHashForEachRequest(t *testing.T) {
	if first, second := users.HashTwice("correct horse battery"); first == "" || first != second {
		t.Errorf("got %q and %q", first, second)
	}
}

// Nobody waits for a place longer than the request lives.
func TestFullHouse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := users.FullHouse(ctx); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}
