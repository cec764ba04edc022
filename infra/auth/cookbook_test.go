package auth

import (
	"encoding/json"
	"strings"
	"testing"
)

// The numbers of the examples in RFC 7520: the key of sections 4.1 and 4.2 (3.3), the one of 4.3 (3.1) and the one of
// 4.4 (3.5), the payload of all of them, and the signatures.
const (
	cookbookRSA = `{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","e":"AQAB","n":"n4EPtAOCc9` +
		`AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRB` +
		`SFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E` +
		`6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLq` +
		`KnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"}`
	cookbookEC = `{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOs` +
		`COzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"Ady` +
		`mlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}`
	cookbookMAC = `{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"h` +
		`JtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}`
	cookbookPayload = `SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb2` +
		`50byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcg` +
		`d2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4`
	cookbookRS256 = `eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.` +
		cookbookPayload +
		`.MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83x` +
		`uglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5` +
		`aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU` +
		`0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg`
	cookbookPS384 = `eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.` +
		cookbookPayload +
		`.cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O` +
		`8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJR` +
		`mBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQ` +
		`TlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw`
	cookbookES512 = `eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.` +
		cookbookPayload +
		`.AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJA` +
		`Qy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2`
	cookbookHS256 = `eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.` +
		cookbookPayload +
		`.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0`
)

// cookbookJSON returns a signature in the general or the flattened form of JSON.
func cookbookJSON(t *testing.T, compact string, flat bool) string {
	t.Helper()
	parts := strings.Split(compact, ".")
	signature := map[string]any{"protected": parts[0], "signature": parts[2]}
	whole := map[string]any{"payload": parts[1], "signatures": []any{signature}}
	if flat {
		signature["payload"] = parts[1]
		whole = signature
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Of the signatures of RFC 7520 the one is accepted that has an accepted algorithm and the compact form. The others are
// refused, not only for their claims: with other algorithms (4.2, 4.3), with a secret key (4.4), without the content
// (4.5), and in the forms that hold unprotected headers or several signatures (4.6 to 4.8).
func TestCookbook(t *testing.T) {
	parts := strings.Split(cookbookRS256, ".")
	for name, c := range map[string]struct {
		keys, token string
		works       bool
	}{
		"4.1":                             {cookbookRSA, cookbookRS256, true},
		"4.1, another payload":            {cookbookRSA, parts[0] + ".e30." + parts[2], false},
		"4.2":                             {cookbookRSA, cookbookPS384, false},
		"4.3":                             {cookbookEC, cookbookES512, false},
		"4.3, with the other key beside":  {cookbookRSA, cookbookES512, false},
		"4.4":                             {cookbookMAC, cookbookHS256, false},
		"4.4, with a public key beside":   {cookbookMAC + "," + cookbookRSA, cookbookHS256, false},
		"4.5":                             {cookbookRSA, parts[0] + ".." + parts[2], false},
		"4.6 to 4.8, flattened":           {cookbookRSA, cookbookJSON(t, cookbookRS256, true), false},
		"4.6 to 4.8, general":             {cookbookRSA, cookbookJSON(t, cookbookRS256, false), false},
		"4.7, without a protected header": {cookbookRSA, "." + parts[1] + "." + parts[2], false},
	} {
		set := []byte(`{"keys":[` + c.keys + `]}`)
		if err := verifiesJWS(set, c.token); (err == nil) != c.works {
			t.Errorf("%s: got %v", name, err)
		}
		keys, err := ParseJWKS(set)
		if err != nil {
			continue
		}
		v, err := NewVerifier(VerifierConfig{
			Keys: keys, Issuer: "i", Audience: "a", Algorithms: []string{"RS256", "PS256"},
		})
		if err != nil {
			continue
		}
		if _, err := v.Verify(c.token); err == nil { // the payload is no claims
			t.Errorf("%s: it is taken for an access token", name)
		}
	}
}
