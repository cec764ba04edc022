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

type clubMember struct {
	Name  string `json:"name"`
	Level int    `json:"level"`
}

// newClub declares a function that shows its members, and not its secrets.
func newClub(env function.Env) (*function.Function, error) {
	f := function.New("club", env)
	members := function.Collection[clubMember](f, "members", store.On("level"), store.Admin{Masked: []string{"name"}})
	read := function.Collection[clubMember](f, "ledger", store.Admin{ReadOnly: true})
	function.Collection[clubMember](f, "secrets")
	op := function.Operation{Method: http.MethodPost, Path: "/api/club/{id}", Access: function.Public}
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, in *struct {
		ID   string `path:"id"`
		Body clubMember
	}) (*struct{}, error) {
		if err := read.Put(ctx, tx, in.ID, in.Body); err != nil {
			return nil, err
		}
		return nil, members.Put(ctx, tx, in.ID, in.Body)
	})
	return f, nil
}

func staffOf(role string) auth.Principal { return auth.Principal{Subject: role, Roles: []string{role}} }

// Staff look at documents, without the members that are masked; administrators change and remove them, at the version
// that they have seen. Collections that do not declare it are not shown.
func TestDocuments(t *testing.T) {
	h := functiontest.New(t, newClub)
	for _, id := range []string{"ada", "bob", "with a/slash"} {
		h.Call("POST", "/api/club/"+strings.NewReplacer("/", "%2F", " ", "%20").Replace(id), functiontest.Nobody,
			clubMember{"Name of " + id, len(id)}).Expect(204)
	}
	const all, ada = "/api/documents/club/members", "/api/documents/club/members/ada"
	viewer, admin := staffOf(auth.RoleViewer), functiontest.Admin()
	h.Call("GET", all, functiontest.As("ada"), nil).Expect(403)
	h.Call("GET", "/api/documents/club/secrets", admin, nil).Expect(404)
	for as, want := range map[string]bool{auth.RoleViewer: false, auth.RoleOperator: false, auth.RoleAdmin: true} {
		for _, path := range []string{all, ada} {
			got := string(h.Call("GET", path, staffOf(as), nil).Expect(200).Body)
			if strings.Contains(got, "Name of ada") != want || !strings.Contains(got, `"level":3`) {
				t.Errorf("%s as %s: got %s", path, as, got)
			}
		}
	}
	var page struct {
		Items []struct{ ID string }
		Next  string
	}
	h.Call("GET", all+"?limit=2", viewer, nil).Expect(200).JSON(&page)
	second := all + "?cursor=" + page.Next
	page.Next = ""
	h.Call("GET", second, viewer, nil).Expect(200).JSON(&page)
	if len(page.Items) != 1 || page.Items[0].ID != "with a/slash" || page.Next != "" {
		t.Errorf("the second page: got %+v", page)
	}
	h.Call("GET", all+"/with%20a%2Fslash", viewer, nil).Expect(200)
	h.Call("GET", all+"?field=level&value=12", viewer, nil).Expect(200).JSON(&page)
	if len(page.Items) != 1 {
		t.Errorf("filtered: got %+v", page)
	}
	for _, query := range []string{"?field=name&value=x", "?field=level&value={}", "?field=level&value=null"} {
		h.Call("GET", all+query, viewer, nil).Expect(422)
	}
	tag := h.Call("GET", ada, viewer, nil).Header.Get("ETag")
	body := func(data any) map[string]any { return map[string]any{"data": data, "reason": "a test"} }
	good := body(clubMember{"Ada", 9})
	h.Call("PUT", ada, staffOf(auth.RoleOperator), good, "If-Match", tag).Expect(403)
	h.Call("PUT", ada, admin, good).Expect(428)
	h.Call("PUT", ada, admin, good, "If-Match", `"99"`).Expect(412)
	for _, bad := range []any{map[string]any{"level": "high"}, map[string]any{"other": 1}, []int{1}, nil} {
		h.Call("PUT", ada, admin, body(bad), "If-Match", tag).Expect(422)
	}
	next := h.Call("PUT", ada, admin, good, "If-Match", tag).Expect(200).Header.Get("ETag")
	h.Call("PUT", ada, admin, good, "If-Match", tag).Expect(412) // the other of two operators
	var one struct{ Data json.RawMessage }
	if h.Call("GET", ada, admin, nil).Expect(200).JSON(&one); string(one.Data) != `{"name":"Ada","level":9}` {
		t.Errorf("changed: got %s", one.Data)
	}
	h.Call("DELETE", ada, admin, nil, "If-Match", tag).Expect(412)
	h.Call("DELETE", ada, admin, nil, "If-Match", next).Expect(204)
	h.Call("GET", ada, viewer, nil).Expect(404)
	h.Call("PUT", "/api/documents/club/ledger/ada", admin, good, "If-Match", `"1"`).Expect(405)
	h.Call("GET", "/api/documents/club/ledger/ada", viewer, nil).Expect(200)
}
