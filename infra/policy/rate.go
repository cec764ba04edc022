package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Rate limits how many requests a caller may send. A quota can be used at once, and is regained evenly.
type Rate struct {
	Name   string   `json:"name"`         // in the header fields of answers
	Quota  int64    `json:"quota"`        // requests in a window
	Window Duration `json:"window"`       // in whole seconds
	By     string   `json:"by,omitempty"` // whose requests are counted together; "": ByUser

	// Shared limits of the same name count the requests of all their operations together.
	Shared bool `json:"shared,omitempty"`

	// Away is what happens while the store of the counters cannot be reached; "": AwayLocal.
	Away string `json:"away,omitempty"`
}

// Whose requests are counted together.
const (
	ByUser      = "user"      // the user's; those of an address for callers without credentials
	ByKey       = "key"       // those with the same API key; the user's without one
	ByAddress   = "address"   // of an IPv4 address or an IPv6 network (/64)
	ByOperation = "operation" // all
	ByClaim     = "claim:"    // before the name of a claim: those with the same value of it; the user's without one
)

// What happens while the store of the counters cannot be reached.
const (
	AwayLocal  = "local"  // each process counts by itself
	AwayOpen   = "open"   // nothing is counted or refused
	AwayClosed = "closed" // every request is refused: 503
)

// maxPerSecond is the largest quota for each second of a window.
const maxPerSecond = 1_000_000

var word = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (r Rate) check(report Report) {
	if len(r.Name) > 64 || !word.MatchString(r.Name) {
		report("name", "want 1 to 64 letters, digits, hyphens and underscores")
	}
	seconds := int64(time.Duration(r.Window) / time.Second)
	if seconds < 1 || Duration(seconds)*Duration(time.Second) != r.Window || seconds > 366*24*3600 {
		report("window", "want whole seconds, at least 1s and at most a year")
	}
	if r.Quota < 1 || r.Quota/max(seconds, 1) > maxPerSecond {
		report("quota", "want 1 or more requests, at most 1000000 for each second of the window")
	}
	switch claim, is := strings.CutPrefix(r.By, ByClaim); {
	case is && claim != "":
	case r.By != "" && r.By != ByUser && r.By != ByKey && r.By != ByAddress && r.By != ByOperation:
		report("by", "want user, key, address, operation or claim:NAME")
	}
	if r.Away != "" && r.Away != AwayLocal && r.Away != AwayOpen && r.Away != AwayClosed {
		report("away", "want local, open or closed")
	}
}

// checkRates reports what is not valid in the limits of an operation.
func checkRates(rates []Rate, report Report) {
	seen := map[string]bool{}
	for i, r := range rates {
		field := "rate[" + strconv.Itoa(i) + "]"
		r.check(func(name, problem string) { report(field+"."+name, problem) })
		if seen[r.Name] {
			report(field+".name", fmt.Sprintf("duplicate limit %q", r.Name))
		}
		seen[r.Name] = true
	}
}
