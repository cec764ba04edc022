package users

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/FastFilter/xorfilter"
	"golang.org/x/text/unicode/norm"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The rules of new passwords are those of NIST SP 800-63B-4, section 3.1.1.2: a length, no rules of composition, and
// none that is known to be guessed. Passwords from before sign in as they did.

// The lengths of new passwords, in characters. Config.PasswordMin is the shortest one that is the only factor.
const (
	minPassword = 8 // beside a second factor
	maxPassword = 128
)

//go:embed common/passwords.bin
var commonPasswords []byte

// common returns the filter of the passwords that people choose most. See cmd/passwords.
var common = sync.OnceValue(func() *xorfilter.BinaryFuse[uint16] {
	filter, err := xorfilter.LoadBinaryFuse[uint16](bytes.NewReader(commonPasswords))
	if err != nil {
		panic(fmt.Sprintf("users: common/passwords.bin: %v", err)) // a test loads it
	}
	return filter
})

// isCommon reports whether a password is in the filter, as 1 in 65,536 others are too.
func isCommon(password string) bool {
	sum := sha256.Sum256([]byte(password))
	return common().Contains(binary.LittleEndian.Uint64(sum[:]))
}

// tooLong reports whether no user has such a password: it is not worth hashing.
func tooLong(password string) bool { return utf8.RuneCountInString(password) > maxPassword }

// typed returns the form of a password that is hashed: composed characters (NFC), so that all keyboards give the same.
func typed(password string) string { return norm.NFC.String(password) }

// checkPassword checks a new password, and returns the reason of a refusal. It belongs to the account, to which it must
// not be derived from. The length is checked here and not by the schema, whose complaints quote the value.
func (c Config) checkPassword(location, password string, shortest int, of account) []fault.Detail {
	refuse := func(format string, args ...any) []fault.Detail {
		return []fault.Detail{{Location: location, Message: fmt.Sprintf(format, args...)}}
	}
	if !utf8.ValidString(password) {
		return refuse("must be valid UTF-8")
	}
	password = typed(password)
	switch n := utf8.RuneCountInString(password); {
	case n < shortest || n > maxPassword:
		return refuse("must have %d to %d characters; some words that do not belong together are a good choice",
			shortest, maxPassword)
	case guessed(password, c.words(of)):
		return refuse("is one that is guessed first, or is made from the account's name or address; choose another, for " +
			"example some words that do not belong together")
	}
	return nil
}

// words returns the words that a password of the account must not consist of.
func (c Config) words(of account) []string {
	local, domain, _ := strings.Cut(of.Email, "@")
	site, _, _ := strings.Cut(domain, ".")
	words := append([]string{of.Email, domain, local, site, "password", "ebb", c.Issuer, c.Audience},
		strings.Fields(of.Name)...)
	words = append(words, strings.Join(strings.Fields(of.Name), ""))
	return words
}

// fewCharacters is how many more characters do not make a good password of one that is guessed.
const fewCharacters = 4

// guessed reports whether a password is common, also with a few digits behind it, repeats a short or common one, is a
// sequence, or consists of the words and a few characters. All of it is compared: a common word within does no harm.
func guessed(password string, words []string) bool {
	plain := strings.ToLower(norm.NFKC.String(password))
	if isCommon(repeated(plain)) || sequence(plain) ||
		utf8.RuneCountInString(repeated(plain)) <= fewCharacters {
		return true
	}
	if stem := strings.TrimRightFunc(plain, notLetter); len(plain)-len(stem) <= fewCharacters && isCommon(stem) {
		return true
	}
	rest, found := plain, false
	for _, w := range words {
		if w = strings.ToLower(norm.NFKC.String(w)); utf8.RuneCountInString(w) > 2 && strings.Contains(rest, w) {
			rest, found = strings.ReplaceAll(rest, w, ""), true
		}
	}
	return found && utf8.RuneCountInString(rest) <= fewCharacters
}

func notLetter(r rune) bool { return !unicode.IsLetter(r) }

// repeated returns the shortest text that the password is a repetition of; that may be the password itself.
func repeated(password string) string {
	for n := 1; n <= len(password)/2; n++ {
		if len(password)%n == 0 && strings.Repeat(password[:n], len(password)/n) == password {
			return password[:n]
		}
	}
	return password
}

// sequence reports whether each character follows the one before, up or down: 123456789012345, abcdefghij.
func sequence(password string) bool {
	up, down, last := true, true, rune(-1)
	for _, r := range password {
		if last >= 0 {
			up = up && (r == last+1 || last == '9' && r == '0')
			down = down && (r == last-1 || last == '0' && r == '9')
		}
		last = r
	}
	return up || down
}
