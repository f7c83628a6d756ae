package courante

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrNotFound says that what was asked for does not exist.
	ErrNotFound = errors.New("not found")

	// ErrFenced says that another owner wrote the lane's next progress, or the
	// log's next tick: the caller is a zombie and must read its place again.
	ErrFenced = errors.New("fenced by another owner")

	// ErrUnknownOutcome says that a commit was sent and its answer was lost: it
	// may or may not have happened. Reading the state, or the lane's progress,
	// tells.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrTransient marks a failure of the infrastructure that passes by itself:
	// a lost connection, a server that restarts, a serialization failure. It
	// pauses a consumer and never parks a message.
	ErrTransient = errors.New("transient failure")

	// ErrTooLarge says that an event or a batch is over the store's limit.
	ErrTooLarge = errors.New("too large")

	// ErrClosed says that the store, runtime or transport was stopped.
	ErrClosed = errors.New("closed")
)

// ConflictError says that streams or stored states were changed by somebody
// else since they were read. Nothing was written. Deciding again on fresh
// state is the right answer.
type ConflictError struct {
	// The streams that conflict, each once. None, if it is the part of the log
	// that was closed before the unit could add to it.
	Streams []string
}

func (e *ConflictError) Error() string {
	if len(e.Streams) == 0 {
		return "the open part of the log was closed just now"
	}
	return "version conflict on " + strings.Join(e.Streams, ", ")
}

// LogBrokenError says that a cursor points at a tick that is not, or no longer,
// the same in the log: the database was restored, or a standby was promoted
// without its last transactions. The subscriber must stop, because going on
// could skip events silently.
type LogBrokenError struct {
	Log    string
	Cursor Cursor
	Reason string
}

func (e *LogBrokenError) Error() string {
	return fmt.Sprintf("log %q does not continue at %s: %s; nothing was skipped. Repair with: courante subscriber repair SUBSCRIBER --log %s",
		e.Log, e.Cursor, e.Reason, e.Log)
}

// ArchivedError says that events of a stream were asked for that are in parts of
// the log that were taken out of the database: its first ones, up to Version.
// The state behind the stream and what comes after are there; reading after
// Version goes on.
type ArchivedError struct {
	Log     string
	Stream  string
	Version int64
	Parts   []int // that hold them, or what is missing of them
}

func (e *ArchivedError) Error() string {
	return fmt.Sprintf("the events of %s up to version %d were archived with part %s of log %s; restore its table from where it was archived, and it is read again",
		e.Stream, e.Version, strings.Trim(fmt.Sprint(e.Parts), "[]"), e.Log)
}

// Transient marks err as [ErrTransient].
func Transient(err error) error {
	if err == nil || errors.Is(err, ErrTransient) {
		return err
	}
	return &marked{err, ErrTransient}
}

// Unknown marks err as [ErrUnknownOutcome].
func Unknown(err error) error {
	if err == nil || errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	return &marked{err, ErrUnknownOutcome}
}

type marked struct{ err, mark error }

func (m *marked) Error() string   { return m.err.Error() }
func (m *marked) Unwrap() []error { return []error{m.err, m.mark} }

// Park is the error by which a handler says: this message can never be handled
// as things are; set it and what follows of its key aside until someone looks.
func Park(err error) error { return &parkError{err} }

type parkError struct{ err error }

func (e *parkError) Error() string { return e.err.Error() }
func (e *parkError) Unwrap() error { return e.err }

// RetryAfter is the error by which a handler says: not now, try this key again
// after d; its neighbours go on.
func RetryAfter(d time.Duration, err error) error { return &retryError{d, err} }

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// Rejection is the error by which a command says that it makes no sense in the
// present state. Nothing is written and nobody retries. Code is one of the few
// that callers branch on.
type Rejection struct {
	Code   string // "not_found", "conflict", "invalid"
	Detail string
}

func (e *Rejection) Error() string { return e.Code + ": " + e.Detail }

// Reject returns a [*Rejection].
func Reject(code, format string, args ...any) error {
	return &Rejection{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func isTransient(err error) bool {
	return errors.Is(err, ErrTransient) || errors.Is(err, ErrUnknownOutcome) ||
		errors.Is(err, context.DeadlineExceeded)
}

// TokenEpochError says that a token is of another epoch of the database than
// the log is in now: after a restore or a promotion nobody can tell whether the
// command that it stands for survived. Read again without it.
type TokenEpochError struct {
	Token Token
	Now   int32
}

func (e *TokenEpochError) Error() string {
	return fmt.Sprintf("the token is of epoch %d of log %q, which is in epoch %d now", e.Token.Epoch, e.Token.Log, e.Now)
}
