package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ebb-dev/ebb/infra/fault"
)

// remedies are what to do about failures that are not the caller's, by SQLSTATE.
var remedies = map[string]string{
	"28P01": "the database refuses the role's password; set PGPASSWORD to the right one",
	"28000": "the database does not let the role in; see that the role exists, may log in, and that pg_hba.conf has a line for it",
	"3D000": "the database does not exist; create it, or correct its name in the store's URL",
	"3F000": "the schema does not exist; create it for the role: CREATE SCHEMA … AUTHORIZATION …",
	"42501": "the role lacks a right in its schema; make it the owner of the schema and of all that is in it",
	"42P01": "a table of the function is not there any more; start the function anew, which makes it",
	"53000": "the database lacks resources; see its log",
	"53100": "the disk that holds the database is full; free some space and try again",
	"53200": "there is not enough memory for the database; give its server more",
	"53300": "the database has no connection to spare; lower pool_max_conns, raise the server's max_connections, or put PgBouncer before it",
	"55P03": "a row or table of the database is locked for too long; see who holds it and try again",
	"57P01": "the database is shutting down, or has cut the connection; try again",
	"57P02": "the database is starting again after a crash; try again",
	"57P03": "the database is starting or shutting down; try again",
	"57P05": "the database has cut a connection that was idle; try again",
	"25006": "the database is read-only; name the primary in the store's URL, and not a standby",
	"26000": "the database lost a prepared statement, as behind PgBouncer before 1.21; add default_query_exec_mode=exec to the store's URL",
	"42P05": "the database has another's prepared statement, as behind PgBouncer before 1.21; add default_query_exec_mode=exec to the store's URL",
	"XX001": "the database is damaged; restore it from a backup",
	"XX002": "an index of the database is damaged; run REINDEX, or restore it from a backup",
}

// refusals are failures that are the caller's, or the kind they are of, by SQLSTATE.
var refusals = map[string]*fault.Error{
	"22021": fault.New(fault.Invalid, "an id or a place holds characters that the database has none for"),
	"54000": fault.New(fault.TooLarge, "an id and the indexed fields beside it are too long for an index of the database, which holds some 2,700 bytes"),
	"54001": fault.New(fault.Invalid, "the document is nested too deeply"),
	"57014": fault.New(fault.Timeout, "the database gave up on a statement that took too long"),
	"40001": fault.New(fault.Conflict, "others have changed the same documents in the meantime"),
	"40P01": fault.New(fault.Conflict, "others have changed the same documents in the meantime"),
}

// translate makes a fault of what went wrong while doing something.
func translate(ctx context.Context, err error, doing string) error {
	var known *fault.Error
	var said *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &said):
		return answered(err, said, doing)
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		return fault.Wrap(err, fault.Unavailable, "the database does not answer; see that its server runs, and that the store's URL has the right host, port and sslmode")
	}
	if doing == "commit" && !errors.As(err, new(undone)) {
		return fault.Wrap(err, fault.Unavailable, "the connection to the database broke during a commit, which has happened or has not; read and see")
	}
	return fault.Wrap(err, fault.Unavailable, "the connection to the database broke; try again")
}

// answered makes a fault of what PostgreSQL said.
func answered(err error, said *pgconn.PgError, doing string) error {
	if r, ok := refusals[said.Code]; ok {
		return fault.Wrap(err, r.Kind, "%s", r.Message)
	}
	if doing == "commit" && fatal(said) && !errors.As(err, new(undone)) {
		return fault.Wrap(err, fault.Unavailable, "the database went away during a commit, which has happened or has not; read and see")
	}
	remedy, ok := remedies[said.Code]
	switch {
	case ok:
		return fault.Wrap(err, fault.Unavailable, "%s", remedy)
	case said.Code[:2] == "08", said.Code[:2] == "53", said.Code[:2] == "57", said.Code[:2] == "58":
		return fault.Wrap(err, fault.Unavailable, "the database cannot do it just now; see its log and try again")
	}
	return fault.Wrap(err, fault.Internal, "postgres: %s", doing)
}

// fatal reports whether PostgreSQL ended the connection with what it said.
func fatal(said *pgconn.PgError) bool {
	severity := said.SeverityUnlocalized
	return severity == "FATAL" || severity == "PANIC"
}

// lost reports whether an open connection turned out to be none, so that another may work.
func lost(err error) bool {
	var connecting *pgconn.ConnectError
	var said *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &connecting):
		return false
	case errors.As(err, &said):
		return fatal(said)
	}
	return true
}

// collided reports whether a transaction was ended so that another could go on.
func collided(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && (said.Code == "40001" || said.Code == "40P01")
}
