package function_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// newDues declares a function whose collection has an index on a masked member, and a migration.
func newDues(env function.Env) (*function.Function, error) {
	f := function.New("dues", env)
	double := store.Step(func(doc store.Fields) error {
		var level int
		if err := json.Unmarshal(doc["level"], &level); err != nil {
			return err
		}
		doc["level"], _ = json.Marshal(2 * level)
		return nil
	})
	members := function.Collection[clubMember](f, "members", store.On("name"), store.On("level"),
		store.Admin{Masked: []string{"name"}}, store.Migrate(double))
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/dues/{id}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID   string `path:"id"`
			Body clubMember
		}) (*struct{}, error) {
			return nil, members.Put(ctx, tx, in.ID, in.Body)
		})
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/dues/{id}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID string `path:"id"`
		}) (*struct{ Body clubMember }, error) {
			m, err := members.Get(ctx, tx, in.ID)
			return &struct{ Body clubMember }{m}, err
		})
	return f, nil
}

const duesMembers = "/api/documents/dues/members"

// A filter on a masked member would tell what the member is to those who may not see it.
func TestDocumentsFilterMasked(t *testing.T) {
	h := functiontest.New(t, newDues)
	h.Call("POST", "/api/dues/ada", functiontest.Nobody, clubMember{"Ada", 3}).Expect(204)
	const query = duesMembers + "?field=name&value=Ada"
	h.Call("GET", query, functiontest.Admin(), nil).Expect(200)
	for _, role := range []string{auth.RoleViewer, auth.RoleOperator} {
		h.Call("GET", query, staffOf(role), nil).Expect(422)
		h.Call("GET", duesMembers+"?field=level&value=3", staffOf(role), nil).Expect(200)
	}
}

// A change leaves a document that the function reads as the administrator wrote it: no member whose name differs in
// case from that of the function, and the revision of today's form, also where an older version has stored the
// document.
func TestDocumentsChangeStaysReadable(t *testing.T) {
	h := functiontest.New(t, newDues)
	admin, ada := functiontest.Admin(), duesMembers+"/ada"
	h.Call("POST", "/api/dues/ada", functiontest.Nobody, clubMember{"Ada", 3}).Expect(204)
	tag := h.Call("GET", ada, admin, nil).Header.Get("ETag")
	for _, bad := range []string{
		`{"name":"Ada","level":3,"LEVEL":4}`,
		`{"name":"Ada","Level":4}`,
		`{"_revision":2,"name":"Ada","level":4}`,
		`{"_revision":0,"name":"Ada","level":4}`,
	} {
		in := map[string]any{"data": json.RawMessage(bad), "reason": "a test"}
		if a := h.Call("PUT", ada, admin, in, "If-Match", tag); a.Status != 422 {
			t.Errorf("%s: got %d", bad, a.Status)
			tag = h.Call("GET", ada, admin, nil).Header.Get("ETag")
		}
	}
	good := map[string]any{"data": json.RawMessage(`{"name":"Ada","level":9}`), "reason": "a test"}
	h.Call("PUT", ada, admin, good, "If-Match", tag).Expect(200)
	var m clubMember
	if h.Call("GET", "/api/dues/ada", functiontest.Nobody, nil).Expect(200).JSON(&m); m != (clubMember{"Ada", 9}) {
		t.Errorf("the function reads %+v", m)
	}
	h.Stored("members", "old", `{"name":"Old","level":2}`)
	const old = duesMembers + "/old"
	var shown struct{ Data clubMember }
	a := h.Call("GET", old, admin, nil).Expect(200)
	if a.JSON(&shown); shown.Data != (clubMember{"Old", 4}) || strings.Contains(string(a.Body), "_revision") {
		t.Errorf("stored by an older version: shown as %s", a.Body)
	}
	in := map[string]any{"data": clubMember{"Old", 5}, "reason": "a test"}
	h.Call("PUT", old, admin, in, "If-Match", a.Header.Get("ETag")).Expect(200)
	if h.Call("GET", "/api/dues/old", functiontest.Nobody, nil).Expect(200).JSON(&m); m != (clubMember{"Old", 5}) {
		t.Errorf("the function reads %+v of the older version", m)
	}
}

// The reason of a removal is in the audit trail, as that of a change.
func TestDocumentsRemoveReason(t *testing.T) {
	h := functiontest.New(t, newDues)
	admin, ada := functiontest.Admin(), duesMembers+"/ada"
	h.Call("POST", "/api/dues/ada", functiontest.Nobody, clubMember{"Ada", 3}).Expect(204)
	tag := h.Call("GET", ada, admin, nil).Header.Get("ETag")
	h.Call("DELETE", ada+"?reason=she+has+left", admin, nil, "If-Match", tag).Expect(204)
	got := string(h.Call("GET", "/api/audit/dues", admin, nil).Expect(200).Body)
	if !strings.Contains(got, "she has left") {
		t.Errorf("the audit trail: got %s", got)
	}
}

// A page of large documents is limited in bytes, and goes on.
func TestDocumentsPageOfLargeOnes(t *testing.T) {
	h := functiontest.New(t, newDues)
	long := strings.Repeat("x", 100_000)
	for i := range 100 {
		h.Call("POST", "/api/dues/m"+string(rune('a'+i/26))+string(rune('a'+i%26)), functiontest.Nobody,
			clubMember{long, i}).Expect(204)
	}
	seen, cursor := 0, ""
	for range 100 {
		var page struct {
			Items []struct{ ID string }
			Next  string
		}
		a := h.Call("GET", duesMembers+"?limit=100&cursor="+cursor, functiontest.Admin(), nil).Expect(200)
		if len(a.Body) > 5<<20 {
			t.Errorf("a page has %d bytes", len(a.Body))
		}
		a.JSON(&page)
		seen += len(page.Items)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if seen != 100 {
		t.Errorf("the pages have %d documents", seen)
	}
}
