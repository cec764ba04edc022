package flags

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// audience is the document with the functions that have been told of the flags.
type audience struct {
	Functions []string `json:"functions"`
}

const only = "only" // the id of the single document of a collection

// portion is how many flags are told again in one unit of work.
const portion = 20

// meet asks for the flags to be told again when a function is new that consumes their changes: it has missed those from
// before its trigger existed.
func (s *flags) meet(ctx context.Context, tx *function.Tx, _ event.SweptClock) error {
	if tx.Replayed() {
		return nil
	}
	known, _, err := s.audiences.Find(ctx, tx, only)
	if err != nil {
		return err
	}
	now, isNew := []string{}, false
	for _, d := range s.f.Env().System().Sorted() {
		if slices.Contains(d.Consumes, event.FlagsChanged.Name()) {
			now = append(now, d.Name)
			isNew = isNew || !slices.Contains(known.Functions, d.Name)
		}
	}
	if slices.Equal(now, known.Functions) {
		return nil
	}
	if isNew {
		tx.Emit(event.FlagsAnnounce.New(only, event.AnnounceFlags{}))
	}
	return s.audiences.Put(ctx, tx, only, audience{Functions: now})
}

// announce tells of a portion of the flags again. A consumer that knows them takes no notice. Removed flags are told
// too: a function that was away for some time may still know one.
func (s *flags) announce(ctx context.Context, tx *function.Tx, cmd event.AnnounceFlags) error {
	if tx.Replayed() {
		return nil
	}
	page, err := s.flags.Query(ctx, tx, store.Find{Limit: portion, Cursor: cmd.Cursor})
	if err != nil {
		return err
	}
	for _, item := range page.Items {
		tx.Emit(item.Value.told(item.ID, item.Version))
	}
	if page.Next != "" {
		tx.Emit(event.FlagsAnnounce.New(only, event.AnnounceFlags{Cursor: page.Next}))
	}
	return nil
}
