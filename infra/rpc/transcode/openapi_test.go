package transcode_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
)

// shelves is a schema with a field of each kind.
const shelves = `file {
  name: "shelf.proto" package: "shelf.v1" syntax: "proto3"
  dependency: ["google/api/annotations.proto", "google/protobuf/timestamp.proto", "google/protobuf/struct.proto",
    "google/protobuf/wrappers.proto"]
  enum_type { name: "Kind" value { name: "KIND_NONE" number: 0 } value { name: "KIND_ROUND" number: 1 } }
  message_type {
    name: "Book"
    field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "id" }
    field { name: "page_count" number: 2 type: TYPE_UINT32
      label: LABEL_OPTIONAL json_name: "pageCount" }
    field { name: "next" number: 3 type: TYPE_MESSAGE type_name: ".shelf.v1.Book"
      label: LABEL_OPTIONAL json_name: "next" }
    field { name: "kind" number: 4 type: TYPE_ENUM type_name: ".shelf.v1.Kind"
      label: LABEL_OPTIONAL json_name: "kind" }
    field { name: "at" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp"
      label: LABEL_OPTIONAL json_name: "at" }
    field { name: "any" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct"
      label: LABEL_OPTIONAL json_name: "any" }
    field { name: "cover" number: 7 type: TYPE_BYTES label: LABEL_OPTIONAL json_name: "cover" }
    field { name: "tags" number: 8 type: TYPE_STRING label: LABEL_REPEATED json_name: "tags" }
    field { name: "limit" number: 9 type: TYPE_MESSAGE type_name: ".google.protobuf.Int32Value"
      label: LABEL_OPTIONAL json_name: "limit" }
    field { name: "marks" number: 10 type: TYPE_MESSAGE type_name: ".shelf.v1.Book.MarksEntry"
      label: LABEL_REPEATED json_name: "marks" }
    field { name: "parts" number: 11 type: TYPE_MESSAGE type_name: ".shelf.v1.Book"
      label: LABEL_REPEATED json_name: "parts" }
    field { name: "price" number: 12 type: TYPE_DOUBLE label: LABEL_OPTIONAL json_name: "price" }
    field { name: "lent" number: 13 type: TYPE_BOOL label: LABEL_OPTIONAL json_name: "lent" }
    nested_type {
      name: "MarksEntry" options { map_entry: true }
      field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "key" }
      field { name: "value" number: 2 type: TYPE_SFIXED64 label: LABEL_OPTIONAL json_name: "value" }
    }
  }
  message_type {
    name: "Request"
    field { name: "shelf" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "shelf" }
    field { name: "book" number: 2 type: TYPE_MESSAGE type_name: ".shelf.v1.Book"
      label: LABEL_OPTIONAL json_name: "book" }
    field { name: "dry_run" number: 3 type: TYPE_BOOL label: LABEL_OPTIONAL json_name: "dryRun" }
  }
  service {
    name: "Shelves"
    method {
      name: "Find" input_type: ".shelf.v1.Request" output_type: ".shelf.v1.Book"
      options { [google.api.http] { get: "/v1/{shelf}/books/{book.id}" response_body: "tags" } }
    }
    method {
      name: "Put" input_type: ".shelf.v1.Request" output_type: ".shelf.v1.Book"
      options { [google.api.http] {
        put: "/v1/{shelf}/books" body: "book"
        additional_bindings { post: "/v1/{shelf}/books" body: "*" }
        additional_bindings { custom { kind: "LINK" path: "/v1/{shelf}/books" } body: "*" }
      } }
    }
    method { name: "Plain" input_type: ".shelf.v1.Request" output_type: ".shelf.v1.Book" }
  }
}`

// The description of a service has each request of plain JSON with its parameters, its body and its answer, and each
// message once, also one that has itself as a field.
func TestOpenAPI(t *testing.T) {
	var set descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(shelves), &set); err != nil {
		t.Fatal(err)
	}
	schema, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	u, err := transcode.NewUpstream(manifest.Service{Name: "shelf.v1.Shelves", Schema: schema}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(u.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Parameters  []struct{ Name, In string }
			RequestBody struct {
				Required bool
				Content  map[string]struct{ Schema json.RawMessage }
			}
			Responses map[string]struct {
				Content map[string]struct{ Schema json.RawMessage }
			}
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	find := doc.Paths["/v1/{shelf}/books/{book.id}"]["get"]
	want := "[{shelf path} {book.id path} {book.pageCount query} {book.kind query} {book.at query} {book.cover query} " +
		"{book.tags query} {book.limit query} {book.price query} {book.lent query} {dryRun query}]"
	if got := fmt.Sprint(find.Parameters); got != want {
		t.Errorf("got %s", got)
	}
	const book = `{"$ref":"#/components/schemas/shelf.v1.Book"}`
	if got := string(find.Responses["200"].Content["application/json"].Schema); got !=
		`{"items":{"type":"string"},"type":"array"}` {
		t.Errorf("got %s", got)
	}
	put, post := doc.Paths["/v1/{shelf}/books"]["put"], doc.Paths["/v1/{shelf}/books"]["post"]
	if got := fmt.Sprint(put.OperationID, put.Parameters, put.RequestBody.Required); got !=
		"shelf.v1.Shelves.Put[{shelf path} {dryRun query}] true" {
		t.Errorf("got %s", got)
	}
	if got := string(put.RequestBody.Content["application/json"].Schema); got != book {
		t.Errorf("got %s", got)
	}
	if got := string(post.RequestBody.Content["application/json"].Schema); got != `{"properties":{"book":`+book+
		`,"dryRun":{"type":"boolean"}},"type":"object"}` {
		t.Errorf("got %s", got)
	}
	if len(doc.Paths) != 2 || len(doc.Paths["/v1/{shelf}/books"]) != 2 {
		t.Errorf("got %s", text)
	}
	got := doc.Components.Schemas["shelf.v1.Book"].Properties
	for name, want := range map[string]string{
		"id": `{"type":"string"}`, "pageCount": `{"format":"int64","minimum":0,"type":"integer"}`, "next": book,
		"kind": `{"enum":["KIND_NONE","KIND_ROUND"],"type":"string"}`,
		"at":   `{"format":"date-time","type":"string"}`, "any": `{"type":"object"}`,
		"cover": `{"contentEncoding":"base64","type":"string"}`, "tags": `{"items":{"type":"string"},"type":"array"}`,
		"limit": `{"type":["integer","null"]}`, "parts": `{"items":` + book + `,"type":"array"}`,
		"marks": `{"additionalProperties":{"format":"int64","type":"string"},"type":"object"}`,
		"price": `{"format":"double","type":"number"}`, "lent": `{"type":"boolean"}`,
	} {
		if string(got[name]) != want {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
	if len(got) != 13 || len(doc.Components.Schemas) != 1 {
		t.Errorf("got %s", text)
	}
}
