package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ebb-dev/ebb/infra/fault"
)

// remedies maps SQLSTATEs to messages that tell an operator what to do.
var remedies = map[string]string{
	"28P01": "the database refuses the role's password; set PGPASSWORD to the right one",
	"28000": "the database does not let the role in; see that the role exists, may log in, and that pg_hba.conf has a " +
		"line for it",
	"3D000": "the database does not exist; create it, or correct its name in the store's URL",
	"3F000": "the schema does not exist; create it for the role: CREATE SCHEMA … AUTHORIZATION …",
	"42501": "the role lacks a right in its schema; make it the owner of the schema and of all that is in it",
	"42P01": "a table of the function is not there any more; start the function anew, which makes it",
	"53000": "the database lacks resources; see its log",
	"53100": "the disk that holds the database is full; free some space and try again",
	"53200": "there is not enough memory for the database; give its server more",
	"53300": "the database has no connection to spare; lower pool_max_conns, raise the server's max_connections, or " +
		"put PgBouncer before it",
	"55P03": "a row or table of the database is locked for too long; see who holds it and try again",
	"57P01": "the database is shutting down, or has cut the connection; try again",
	"57P02": "the database is starting again after a crash; try again",
	"57P03": "the database is starting or shutting down; try again",
	"57P05": "the database has cut a connection that was idle; try again",
	"25006": "the database is read-only; name the primary in the store's URL, and not a standby",
	"26000": "the database lost a prepared statement, as behind PgBouncer before 1.21; add " +
		"default_query_exec_mode=exec to the store's URL",
	"42P05": "the database has another's prepared statement, as behind PgBouncer before 1.21; add " +
		"default_query_exec_mode=exec to the store's URL",
	"XX001": "the database is damaged; restore it from a backup",
	"XX002": "an index of the database is damaged; run REINDEX, or restore it from a backup",
}

// refusals maps SQLSTATEs to the faults of invalid input, and to those with a special kind.
var refusals = map[string]*fault.Error{
	"22021": fault.New(fault.Invalid, "an id or a cursor has characters that the database cannot store"),
	"54000": fault.New(fault.TooLarge,
		"an id and its indexed fields are too long for an index of the database, which has about 2,700 bytes"),
	"54001": fault.New(fault.Invalid, "the document is nested too deeply"),
	"57014": fault.New(fault.Timeout, "the database cancelled a statement that took too long"),
	"40001": fault.New(fault.Conflict, "another transaction has changed the same documents"),
	"40P01": fault.New(fault.Conflict, "another transaction has changed the same documents"),
}

// translate returns the fault of an error of pgx. doing names the operation.
func translate(ctx context.Context, err error, doing string) error {
	var known *fault.Error
	var reported *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &reported):
		return serverFault(err, reported, doing)
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		return fault.Wrap(err, fault.Unavailable, "the database does not answer; see that its server runs, and that the "+
			"store's URL has the right host, port and sslmode")
	}
	if doing == "commit" && !errors.As(err, new(undone)) {
		return fault.Wrap(
			err, fault.Unavailable,
			"the connection to the database broke during a commit, which may have happened; read the documents",
		)
	}
	return fault.Wrap(err, fault.Unavailable, "the connection to the database broke; try again")
}

// serverFault returns the fault of an error that PostgreSQL reported.
func serverFault(err error, reported *pgconn.PgError, doing string) error {
	if r, ok := refusals[reported.Code]; ok {
		return fault.Wrap(err, r.Kind, "%s", r.Message)
	}
	if doing == "commit" && fatal(reported) && !errors.As(err, new(undone)) {
		return fault.Wrap(
			err, fault.Unavailable, "the database stopped during a commit, which may have happened; read the documents",
		)
	}
	remedy, ok := remedies[reported.Code]
	switch {
	case ok:
		return fault.Wrap(err, fault.Unavailable, "%s", remedy)
	case reported.Code[:2] == "08", reported.Code[:2] == "53", reported.Code[:2] == "57", reported.Code[:2] == "58":
		return fault.Wrap(err, fault.Unavailable, "the database failed; see its log and try again")
	}
	return fault.Wrap(err, fault.Internal, "postgres: %s", doing)
}

// fatal reports whether PostgreSQL ended the connection with the error.
func fatal(reported *pgconn.PgError) bool {
	severity := reported.SeverityUnlocalized
	return severity == "FATAL" || severity == "PANIC"
}

// broken reports whether a pooled connection was broken, so that another one may work.
func broken(err error) bool {
	var connecting *pgconn.ConnectError
	var reported *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &connecting):
		return false
	case errors.As(err, &reported):
		return fatal(reported)
	}
	return true
}

// collided reports whether a transaction was rolled back because of another one.
func collided(err error) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && (reported.Code == "40001" || reported.Code == "40P01")
}
