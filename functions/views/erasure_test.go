package views_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/views"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// What a newer version of the function has stored of a user is erased too.
func TestErasesWhatItDoesNotKnow(t *testing.T) {
	h := functiontest.New(t, views.New, functiontest.Once())
	db, err := h.Store(t.Context(), "views", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	ada := store.Key{Collection: "users", ID: "ada"}
	err = store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Set(ctx, ada, []byte(`{"name":"Ada","phone":"555 0100"}`))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	phone := func() bool {
		docs, err := db.Get(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(docs[0].Data), "555 0100")
	}
	changed := events.ChangedUser{UserID: "ada", Name: "Ada King", Email: "a@example.com"}
	h.MustDeliver(events.UserChanged.New("ada", changed))
	if !phone() {
		t.Error("a change loses what another version has stored")
	}
	h.MustDeliver(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}))
	if phone() {
		t.Error("an erasure keeps what another version has stored")
	}
}
