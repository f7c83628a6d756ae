package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/courante-dev/courante"
)

// checkEvent refuses what a PostgreSQL column would refuse: a program that
// works in memory must not find out in production.
func checkEvent(e *courante.Event, limit int) error {
	if e.Stream == "" || e.Version < 1 {
		return fmt.Errorf("event %s has no stream or version", e.ID())
	}
	if len(e.Data) > limit {
		return fmt.Errorf("event %s of %d bytes, limit %d: %w", e.ID(), len(e.Data), limit, courante.ErrTooLarge)
	}
	for _, text := range []string{e.Stream, e.Type, e.Correlation, e.Causation, e.Subject, e.Trace} {
		if err := checkText(text); err != nil {
			return fmt.Errorf("event %s: %w", e.ID(), err)
		}
	}
	return checkJSON("event "+e.ID(), e.Data)
}

func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return errors.New("text is not valid UTF-8 without zero bytes")
	}
	return nil
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
	if !json.Valid(data) {
		return fmt.Errorf("%s: data is not valid JSON", what)
	}
	return nil
}
