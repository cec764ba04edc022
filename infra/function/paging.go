package function

import "github.com/ebb-dev/ebb/infra/store"

// Paging is the input of an operation that lists: embed it in the operation's input. Page is its output. An operation
// with pages of another size declares its own limit and cursor instead.
//
// A list is read page by page: the first request has no cursor, and each further one passes the next of the page
// before as its cursor, with the same parameters otherwise. A cursor is opaque, does not expire, and holds a position
// in the list rather than a snapshot: an entry that is added or removed between two requests may or may not be seen,
// and an entry that keeps its place in the order is seen exactly once. A cursor that cannot be decoded, or does not
// fit the order of the list, is refused with 422. A page may have fewer entries than the limit and still have a next
// one; only a page without a next is the last.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"The most entries of a page."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}

// Page is the output of an operation that lists. Items must not be nil, so that an empty page is an empty JSON array.
type Page[T any] struct {
	Body struct {
		Items []T    `json:"items"`
		Next  string `json:"next,omitempty" doc:"The cursor of the next page; none: this is the last."`
	}
}

// PageOf returns the output for a page of documents; show converts each of them.
func PageOf[S, T any](page store.Page[S], show func(store.Item[S]) T) *Page[T] {
	out := &Page[T]{}
	out.Body.Items, out.Body.Next = make([]T, len(page.Items)), page.Next
	for i, item := range page.Items {
		out.Body.Items[i] = show(item)
	}
	return out
}
