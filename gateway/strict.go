package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decode reads JSON so that nobody could read it differently. encoding/json
// takes the last of two equal names, mends broken UTF-8, and matches names
// whatever their case; a proxy or an auditor that takes the first, or keeps the
// bytes, would then see another order than we do.
//
// Huma calls it twice: with *any to check the schema, and with the type of the
// body. The text is checked in the first call only.
func decode(data []byte, v any) error {
	if _, first := v.(*any); first {
		if err := strict(data); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(data, v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("%s: a %s does not fit here", wrong.Field, wrong.Value)
		}
		return fmt.Errorf("not JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// maxDepth bounds how deep a body nests. Ours need four levels.
const maxDepth = 64

func strict(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	if err := surrogates(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // keep what is written; 1e999 is no error here
	if err := value(dec, 0); err != nil {
		return err
	}
	if dec.InputOffset() < int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return errors.New("more after the end of the JSON value")
	}
	return nil
}

// value checks one value.
func value(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	switch t := token.(type) {
	case string:
		return text(t)
	case json.Delim:
		if t == '{' {
			return object(dec, depth)
		}
		for dec.More() {
			if err := value(dec, depth+1); err != nil {
				return err
			}
		}
		return end(dec)
	}
	return nil
}

func object(dec *json.Decoder, depth int) error {
	var names [8]string // enough for most objects without a map
	seen := names[:0]
	var many map[string]bool
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("not JSON: %w", err)
		}
		name, ok := token.(string)
		if !ok {
			return errors.New("not JSON: a name in an object is no string")
		}
		if err := text(name); err != nil {
			return err
		}
		twice := many[name]
		for _, have := range seen {
			twice = twice || have == name
		}
		if twice {
			return fmt.Errorf("the name %q is twice in one object", name)
		}
		if len(seen) < cap(seen) {
			seen = append(seen, name)
		} else {
			if many == nil {
				many = map[string]bool{}
			}
			many[name] = true
		}
		if err := value(dec, depth+1); err != nil {
			return err
		}
	}
	return end(dec)
}

// end reads the closing bracket.
func end(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return nil
}

// text refuses what a JSON string can say and PostgreSQL cannot keep.
func text(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New(`a string contains \u0000`)
	}
	return nil
}

// surrogates refuses \ud83d without its other half, which the decoder would
// silently replace. Backslashes are only in strings, so there is no need to
// know where strings begin; what is no JSON at all is found later.
func surrogates(data []byte) error {
	for i := bytes.IndexByte(data, '\\'); i >= 0 && i+1 < len(data); {
		high, ok := escaped(data[i:])
		skip := 2
		if ok && utf16.IsSurrogate(high) {
			low, _ := escaped(data[i+6:])
			if utf16.DecodeRune(high, low) == utf8.RuneError {
				return errors.New("a string contains half of a surrogate pair")
			}
			skip = 12
		}
		next := bytes.IndexByte(data[i+skip:], '\\')
		if next < 0 {
			return nil
		}
		i += skip + next
	}
	return nil
}

// escaped reads a \uXXXX at the beginning of data.
func escaped(data []byte) (rune, bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	return rune(n), err == nil
}
