package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/courante-dev/courante"
)

// A program that works in memory must not find out in production what
// PostgreSQL refuses. These are the limits of package postgres.
const (
	maxEvent    = 1 << 20 // its data, notes and texts together
	maxAppend   = 4 << 20 // the events of one Append together
	maxStream   = 500     // bytes of a stream's name
	maxText     = 4 << 10 // of another text
	rowOverhead = 100     // counted for the columns of an event that have a fixed size
)

// checkAppend refuses an append that is too large as a whole. A unit has no
// such limit: it is what a batch needs.
func checkAppend(events []courante.Event) error {
	var size int
	for i := range events {
		size += len(events[i].Data) + rowOverhead
	}
	if size > maxAppend {
		return fmt.Errorf("%d bytes of events, the limit is %d: %w", size, maxAppend, courante.ErrTooLarge)
	}
	return nil
}

func checkEvent(e *courante.Event) error {
	if e.Stream == "" || e.Version < 1 {
		return fmt.Errorf("event %s has no stream or version", e.ID())
	}
	if len(e.Stream) > maxStream {
		return fmt.Errorf("a stream's name of %d bytes, the limit is %d: %w", len(e.Stream), maxStream, courante.ErrTooLarge)
	}
	size := len(e.Data) + rowOverhead
	for _, text := range [...]string{e.Stream, e.Type, e.Correlation, e.Causation, e.Subject, e.Trace} {
		if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
			return fmt.Errorf("event %s: %q is not UTF-8 without zero characters", e.ID(), text)
		}
		if len(text) > maxText {
			return fmt.Errorf("event %s: a text of %d bytes, the limit is %d: %w", e.ID(), len(text), maxText, courante.ErrTooLarge)
		}
		size += len(text)
	}
	if e.Notes != nil {
		notes, err := json.Marshal(e.Notes)
		if err != nil {
			return fmt.Errorf("event %s: notes: %w", e.ID(), err)
		}
		if err := checkJSON("notes of "+e.ID(), notes); err != nil {
			return err
		}
		size += len(notes)
	}
	if size > maxEvent {
		return fmt.Errorf("event %s of %d bytes, the limit is %d: %w", e.ID(), size, maxEvent, courante.ErrTooLarge)
	}
	return checkJSON("event "+e.ID(), e.Data)
}

// checkDocuments looks at the JSON columns other than the events'.
func checkDocuments(c courante.Changes) error {
	var errs []error
	for _, s := range c.States {
		errs = append(errs, checkJSON("state "+s.Stream(), s.Data))
	}
	for _, s := range c.Snapshots {
		errs = append(errs, checkJSON("snapshot of "+s.Stream(), s.Data))
	}
	for _, r := range c.Replies {
		errs = append(errs, checkJSON("reply to "+r.Key, r.Body))
	}
	for _, p := range c.Progress {
		if p.Note != nil {
			errs = append(errs, checkJSON("progress of "+p.Subscriber, p.Note))
		}
	}
	return errors.Join(errs...)
}

func checkJSON(what string, data json.RawMessage) error {
	if !json.Valid(data) || !utf8.Valid(data) {
		return fmt.Errorf("%s: data is not JSON in UTF-8", what)
	}
	if escapesZero(string(data)) {
		return fmt.Errorf(`%s: data contains \u0000, which PostgreSQL cannot give back as text`, what)
	}
	return nil
}

// escapesZero reports whether the JSON has the escape \u0000. In \\u0000 it is
// the backslash that is escaped.
func escapesZero(text string) bool {
	for {
		before, after, found := strings.Cut(text, `\u0000`)
		if !found {
			return false
		}
		if slashes := len(before) - len(strings.TrimRight(before, `\`)); slashes%2 == 0 {
			return true
		}
		text = after
	}
}
