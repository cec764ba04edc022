package console

import (
	"html/template"
	"strings"
)

// breaks returns the HTML of a long name with a <wbr> after each character that separates its parts: browsers may end a
// line there. Without it they break the name within a word, or not at all.
func breaks(name string) template.HTML {
	var b strings.Builder
	for _, r := range name {
		b.WriteString(template.HTMLEscapeString(string(r)))
		if strings.ContainsRune("._-/:,@=&", r) {
			b.WriteString("<wbr>")
		}
	}
	return template.HTML(b.String())
}
