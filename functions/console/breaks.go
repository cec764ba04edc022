package console

import (
	"html/template"
	"strings"
)

// breaks returns a long name with the points at which a line may end: behind what separates its parts. Browsers break
// such a name within a word otherwise, or not at all.
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
