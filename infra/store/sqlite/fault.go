package sqlite

import (
	"context"
	"errors"

	"zombiezen.com/go/sqlite"

	"github.com/ebb-dev/ebb/infra/fault"
)

// remedies maps SQLite's codes to messages that tell an operator what to do.
var remedies = map[sqlite.ResultCode]string{
	sqlite.ResultFull:     "the disk that holds the database is full; free some space and try again",
	sqlite.ResultCorrupt:  "the database file is damaged; restore it from a backup",
	sqlite.ResultNotADB:   "the database file is not a database; restore it from a backup or move it away",
	sqlite.ResultReadOnly: "the database is read-only; make its file and directory writable",
	sqlite.ResultPerm:     "the database may not be opened; give this process the right to write its file and directory",
	sqlite.ResultCantOpen: "the database cannot be opened; see that its directory exists and is writable",
	sqlite.ResultBusy:     "another process keeps the database locked; stop it or try again",
	sqlite.ResultLocked:   "another process keeps the database locked; stop it or try again",
	sqlite.ResultIOErr:    "the disk that holds the database fails; check the disk and the free space on it",
	sqlite.ResultNoMem:    "there is not enough memory for the database; give the process more",
}

// translate returns the fault of an error of SQLite. doing names the operation.
func translate(err error, doing string) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	code := sqlite.ErrCode(err).ToPrimary()
	if sqlite.ErrCode(err) == sqlite.ResultIOErrSHMSize {
		code = sqlite.ResultFull // the disk is too full for the index of the write-ahead log
	}
	if remedy, ok := remedies[code]; ok {
		return fault.Wrap(err, fault.Unavailable, "%s", remedy)
	}
	if code == sqlite.ResultTooBig {
		return fault.Wrap(err, fault.TooLarge, "the document is too large to be stored")
	}
	return fault.Wrap(err, fault.Internal, "sqlite: %s", doing)
}
