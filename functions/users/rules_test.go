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

func TestNamesAndPasswords(t *testing.T) {
	for name, good := range map[string]bool{
		"Ada": true, "李": true, strings.Repeat("ä", 200): true,
		"": false, strings.Repeat("a", 201): false, "A\x07da": false,
	} {
		if got := users.NameFaults(name) == 0; got != good {
			t.Errorf("name %q: acceptable %v, want %v", name, got, good)
		}
	}
	for password, good := range map[string]bool{
		"12345678": true, strings.Repeat("ä", 128): true, "with some blanks": true,
		"1234567": false, strings.Repeat("a", 129): false, "": false,
	} {
		if got := users.PasswordFaults(password) == 0; got != good {
			t.Errorf("password %q: acceptable %v, want %v", password, got, good)
		}
	}
}

func TestHashes(t *testing.T) {
	phc, err := users.Hash("correct horse")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("got %q, %v", phc, err)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horsf": false, "": false} {
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
		if _, err := users.Matches("correct horse", bad); !fault.Is(err, fault.Internal) || err == nil {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// The handler may run again, the hash is made once.
func TestOneHashForEachRequest(t *testing.T) {
	if first, second := users.HashTwice("correct horse"); first == "" || first != second {
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
