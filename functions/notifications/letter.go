package notifications

import (
	"embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/ebb-dev/ebb/events"
)

//go:embed templates/*.txt
var files embed.FS

var templates = template.Must(template.ParseFS(files, "templates/*.txt"))

// letter is one message, ready to be sent. ID is the same however often it is sent.
type letter struct {
	ID, To, Subject, Body string
}

// facts are what templates speak of.
type facts struct {
	Name, OrderID, Total, Reason string
}

// write fills a template. Its first line is the subject.
func write(name string, about facts) (subject, body string, err error) {
	var out strings.Builder
	if err := templates.ExecuteTemplate(&out, name+".txt", about); err != nil {
		return "", "", fmt.Errorf("write %s: %w", name, err)
	}
	subject, body, _ = strings.Cut(out.String(), "\n")
	// What a customer is called must not be able to add a header line.
	subject = strings.Join(strings.Fields(subject), " ")
	return subject, strings.TrimLeft(body, "\n"), nil
}

// decimals are the currencies whose minor unit is not a hundredth (ISO 4217).
var decimals = map[string]int{
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0,
	"PYG": 0, "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}

// price writes an amount as people do: 39.98 EUR.
func price(m events.Money) string {
	n, special := decimals[m.Currency]
	if !special {
		n = 2
	}
	if n == 0 {
		return fmt.Sprintf("%d %s", m.Amount, m.Currency)
	}
	digits := fmt.Sprintf("%0*d", n+1, m.Amount)
	whole := len(digits) - n
	return digits[:whole] + "." + digits[whole:] + " " + m.Currency
}
