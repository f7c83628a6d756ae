package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/courante-dev/courante"
)

const (
	// MaxEvent bounds one event: its data, notes and texts together. Larger
	// things belong in an object store, with a reference in the event: readers
	// take events by the thousand.
	MaxEvent = 1 << 20

	// MaxAppend bounds the events of one Append together.
	MaxAppend = 4 << 20

	// MaxStream bounds a stream's name. An index entry has room for about 2,700
	// bytes, and a long name is paid for in every event.
	MaxStream = 500

	// MaxText bounds each of an event's other texts: its type, correlation,
	// causation, subject and trace. On a broker's wire they are headers, which
	// have to fit into a frame together.
	MaxText = 4 << 10
)

func checkStream(stream string) error {
	switch {
	case stream == "":
		return errors.New("the stream has no name")
	case len(stream) > MaxStream:
		return fmt.Errorf("the stream's name has %d bytes, the limit is %d: %w", len(stream), MaxStream, courante.ErrTooLarge)
	}
	return checkText("stream", stream)
}

// checkEvent refuses what the server would refuse, or could not give back: in a
// group, an event that fails in the server costs its neighbours a repetition.
// That data is JSON at all is left to the server: it looks anyway, and looking
// here as well would cost as much as all else that a caller does. It returns
// the event's size.
func checkEvent(e *courante.Event, notes []byte) (size int, err error) {
	for _, text := range [...]struct{ name, value string }{
		{"type", e.Type}, {"correlation", e.Correlation}, {"causation", e.Causation},
		{"subject", e.Subject}, {"trace", e.Trace},
	} {
		if err := checkText(text.name, text.value); err != nil {
			return 0, err
		}
		if len(text.value) > MaxText {
			return 0, fmt.Errorf("%s has %d bytes, the limit is %d: %w", text.name, len(text.value), MaxText, courante.ErrTooLarge)
		}
		size += len(text.value)
	}
	size += len(e.Data) + len(notes) + rowOverhead
	if size > MaxEvent {
		return 0, fmt.Errorf("%d bytes, the limit is %d: %w", size, MaxEvent, courante.ErrTooLarge)
	}
	if len(e.Data) > 0 {
		if err := checkJSONText("data", e.Data); err != nil {
			return 0, err
		}
	}
	if notes != nil {
		if err := checkJSONText("notes", notes); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// rowOverhead is what a row takes in a statement beside its texts: 4 bytes of
// length for each of its columns and 36 of numbers.
const rowOverhead = 100

func checkText(name, value string) error {
	if strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("%s contains the character U+0000, which PostgreSQL cannot store", name)
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	return nil
}

func checkJSON(name string, data []byte) error {
	if !json.Valid(data) {
		return fmt.Errorf("%s is not JSON", name)
	}
	return checkJSONText(name, data)
}

// checkJSONText refuses of what may be JSON the characters that cannot be stored.
func checkJSONText(name string, data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	if hasEscapedNUL(data) {
		return fmt.Errorf(`%s contains \u0000, which PostgreSQL cannot give back as text`, name)
	}
	return nil
}

var escapedNUL = []byte(`\u0000`)

// hasEscapedNUL reports whether the JSON has the escape \u0000: not the text
// that \\u0000 stands for, where the backslash itself is escaped.
func hasEscapedNUL(data []byte) bool {
	for from := 0; ; {
		i := bytes.Index(data[from:], escapedNUL)
		if i < 0 {
			return false
		}
		i += from
		backslashes := 1
		for j := i - 1; j >= 0 && data[j] == '\\'; j-- {
			backslashes++
		}
		if backslashes%2 == 1 {
			return true
		}
		from = i + 1
	}
}
