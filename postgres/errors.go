package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

var errClosed = fmt.Errorf("postgres: the store is closed: %w", courante.ErrClosed)

// translate turns an error of the driver or the server into one that callers
// branch on: it marks what passes by itself as transient, turns "no rows" into
// ErrNotFound and a closed pool into ErrClosed, and says the fix where set-up
// is wrong. doing is what failed, such as "read stream order:17". The driver
// keeps passwords out of its messages.
func translate(doing string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("postgres: %s: %w", doing, err)
	var server *pgconn.PgError
	switch {
	case errors.Is(err, courante.ErrTransient), errors.Is(err, courante.ErrUnknownOutcome):
		return wrapped
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("postgres: %s: %w", doing, courante.ErrNotFound)
	case errors.Is(err, puddle.ErrClosedPool):
		return fmt.Errorf("postgres: %s: %w", doing, courante.ErrClosed)
	case errors.As(err, &server):
		if fix := fixFor(server); fix != "" {
			return fmt.Errorf("%w; %s", wrapped, fix)
		}
		if transientCode(server.Code) {
			return courante.Transient(wrapped)
		}
		return wrapped
	case errors.Is(err, context.Canceled):
		return wrapped // the caller's own decision
	case connectionFailed(err):
		return courante.Transient(wrapped)
	}
	return wrapped
}

// translateCommit is translate for an error in answer to a commit, or to a
// statement that commits by itself: when the server has not said that it
// failed and something may have been sent, nobody knows.
func translateCommit(doing string, err error) error {
	if err == nil {
		return nil
	}
	var server *pgconn.PgError
	if errors.As(err, &server) && !outcomeUnknown(server.Code) || pgconn.SafeToRetry(err) {
		return translate(doing, err)
	}
	return courante.Unknown(fmt.Errorf("postgres: %s: the answer to the commit was lost: %w", doing, err))
}

// outcomeUnknown reports whether an error of that SQLSTATE, in answer to a
// commit, does not say that it failed: statement completion unknown, and what a
// pooler says when it has lost its connection to the server.
func outcomeUnknown(code string) bool { return code == "40003" || strings.HasPrefix(code, "08") }

// transientCode reports whether an error of that SQLSTATE passes by itself.
func transientCode(code string) bool {
	switch code {
	case "25006", // read-only transaction: still connected to what is now a standby
		"25P03", // idle-in-transaction timeout
		"40001", // serialization failure
		"40P01", // deadlock
		"55006", // object in use
		"55P03", // lock timeout
		"57014", // canceled, by a statement timeout
		"57P01", // administrator's shutdown, or a terminated session
		"57P02", // crash of another session
		"57P03", // starting up or shutting down
		"57P05": // idle-session timeout
		return true
	}
	switch code[:min(2, len(code))] {
	case "08", // connection
		"53", // no connections, memory or disk left
		"58": // errors of the operating system
		return true
	}
	return false
}

// connectionFailed reports whether err came from the network or from setting
// up a connection rather than from a statement.
func connectionFailed(err error) bool {
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) ||
		// pgconn says this, without a type, of a connection that broke before.
		strings.HasSuffix(err.Error(), "conn closed")
}

// fixFor says how to repair what an operator has set up wrongly.
func fixFor(err *pgconn.PgError) string {
	switch err.Code {
	case "28000", "28P01":
		return "check the user in the URL, its password (PGPASSFILE keeps it out of the URL) and the server's pg_hba.conf"
	case "3D000":
		return "create the database first, for example with createdb"
	case "42501":
		return "grant the user the right, for example: grant create on database NAME to USER"
	case "42P01": // relation "book" does not exist
		if _, name, _ := strings.Cut(err.Message, `"`); name != "" && !strings.Contains(name, ".") {
			table, _, _ := strings.Cut(name, `"`)
			return "a service's tables are in its own schema: write {schema}." + table + ", also in migrations"
		}
	}
	return ""
}
