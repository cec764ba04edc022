package policy

import (
	"net/http"
	"strconv"
)

// Split sends a part of an operation's requests to another function that serves the same operation: its next version, a
// canary. The first rule that a request matches holds.
type Split struct {
	Function string            `json:"function"`
	Percent  float64           `json:"percent,omitempty"` // of callers, each of whom stays on one side; 0: all of them
	Header   map[string]string `json:"header,omitempty"`  // that requests have with these values
	Host     string            `json:"host,omitempty"`    // that requests are sent to, without a port
}

// Mirror sends a copy of an operation's requests to another function, whose answers are thrown away. Only operations
// that read can be mirrored.
type Mirror struct {
	Function string  `json:"function"`
	Percent  float64 `json:"percent,omitempty"` // of callers; 0: all of them
}

func (p Policy) checkTraffic(report Report) {
	for i, s := range p.Split {
		field := "split[" + strconv.Itoa(i) + "]."
		checkTarget(s.Function, s.Percent, func(name, problem string) { report(field+name, problem) })
		for name := range s.Header {
			if http.CanonicalHeaderKey(name) == "" {
				report(field+"header", "want names of header fields")
			}
		}
	}
	if p.Mirror != nil {
		checkTarget(p.Mirror.Function, p.Mirror.Percent, func(name, problem string) { report("mirror."+name, problem) })
	}
}

func checkTarget(function string, percent float64, report Report) {
	if function == "" {
		report("function", "want the name of a function")
	}
	if !(percent >= 0 && percent <= 100) {
		report("percent", "want 0 to 100")
	}
}
