package console

import (
	"strings"
	"testing"
)

// The page shows what is set, and with all=yes every setting; what waits for a restart, and a change that was refused,
// stand out. One function is asked.
func TestConfiguration(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/settings/console", 200, `{"refused":"shop.yaml:2: <b>","items":[
		{"variable":"EBB_CONSOLE_API","value":"http://gateway:8080","origin":"environment","reload":false},
		{"variable":"EBB_LOG_LEVEL","value":"info","origin":"default","reload":true,"description":"the least level"},
		{"variable":"EBB_KEY","value":"***","origin":"consul shop/EBB_KEY","reload":false,"pending":true}]}`)
	w := x.get("/console/configuration?function=console", accessCookie, "viewer")
	body := strings.ReplaceAll(w.Body.String(), "<wbr>", "")
	for text, want := range map[string]bool{
		"EBB_CONSOLE_API": true, "http://gateway:8080": true, "EBB_LOG_LEVEL": false, "consul shop/EBB_KEY": true,
		"***":            true,
		"restart needed": true, "shop.yaml:2: &lt;b&gt;": true, "1 setting has": true, "2 of 3": true,
	} {
		if strings.Contains(body, text) != want {
			t.Errorf("%q: want %v in %s", text, want, body)
		}
	}
	body = x.get("/console/configuration?function=console&all=yes", accessCookie, "viewer").Body.String()
	if !strings.Contains(strings.ReplaceAll(body, "<wbr>", ""), "EBB_LOG_LEVEL") {
		t.Errorf("all: %s", body)
	}
	if len(x.asked) != 2 {
		t.Errorf("asked %v", x.asked)
	}
	if w := x.get("/console/configuration?function=none", accessCookie, "viewer"); w.Code != 404 {
		t.Errorf("another function: got %d", w.Code)
	}
}

// Long names can be broken behind what separates their parts, and nowhere else; nothing in them becomes markup.
func TestBreaks(t *testing.T) {
	for name, want := range map[string]string{
		"EBB_LOG": "EBB_<wbr>LOG", "a.b-c": "a.<wbr>b-<wbr>c", `<i>"&amp;`: "&lt;i&gt;&#34;&amp;<wbr>amp;", "": "",
	} {
		if got := string(breaks(name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
