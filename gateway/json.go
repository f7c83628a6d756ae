package gateway

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON so that nobody could read it differently. encoding/json
// takes the last of two equal names, mends broken UTF-8, and matches names
// whatever their case; a proxy or an auditor that takes the first, or keeps the
// bytes, would then see another order than we do.
type scanner struct {
	data []byte // is UTF-8
	pos  int
}

// syntaxError says why a text is no JSON of ours.
type syntaxError struct{ detail string }

func (e *syntaxError) Error() string { return e.detail }

func badSyntax(format string, args ...any) error {
	return &syntaxError{fmt.Sprintf(format, args...)}
}

// maxDepth bounds how deep a body nests. Ours need four levels.
const maxDepth = 64

// next skips white space and returns the byte that begins what follows, 0 at
// the end.
func (s *scanner) next() byte {
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// unexpected is the error about what stands at the present place.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.data) {
		return badSyntax("not JSON: the body ends where %s should be", want)
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	return badSyntax("not JSON: %q at byte %d, where %s should be", r, s.pos, want)
}

// take consumes c, which must come next.
func (s *scanner) take(c byte) error {
	if s.next() != c {
		return s.unexpected(fmt.Sprintf("%q", rune(c)))
	}
	s.pos++
	return nil
}

// more reports whether a list goes on: it consumes the comma between two
// elements, or the closing bracket.
func (s *scanner) more(first bool, closing byte) (bool, error) {
	switch c := s.next(); {
	case c == closing:
		s.pos++
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, s.unexpected(fmt.Sprintf("a comma or %q", rune(closing)))
	}
	s.pos++
	if s.next() == closing {
		return false, s.unexpected("a further element")
	}
	return true, nil
}

// literal consumes true, false or null.
func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.unexpected("a value")
	}
	s.pos += len(word)
	return nil
}

// number consumes a number and returns it as it is written.
func (s *scanner) number() ([]byte, error) {
	from := s.pos
	digits := func() error {
		start := s.pos
		for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
			s.pos++
		}
		if s.pos == start {
			return s.unexpected("a digit")
		}
		return nil
	}
	at := func(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }
	if at('-') {
		s.pos++
	}
	if at('0') {
		s.pos++ // nothing follows a leading zero
	} else if err := digits(); err != nil {
		return nil, err
	}
	if at('.') {
		s.pos++
		if err := digits(); err != nil {
			return nil, err
		}
	}
	if at('e') || at('E') {
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if err := digits(); err != nil {
			return nil, err
		}
	}
	return s.data[from:s.pos], nil
}

// text consumes a string and returns what it says. The bytes are those of the
// body when there is nothing to unescape; the caller keeps a copy.
func (s *scanner) text() ([]byte, error) {
	if err := s.take('"'); err != nil {
		return nil, err
	}
	from := s.pos
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[from : s.pos-1], nil
		case c == '\\':
			return s.unescape(append([]byte(nil), s.data[from:s.pos]...))
		case c < ' ':
			return nil, badSyntax("not JSON: a string contains the control character %q, which must be escaped", rune(c))
		}
	}
	return nil, badSyntax("not JSON: the body ends inside a string")
}

// unescape consumes the rest of a string, from its first backslash on.
func (s *scanner) unescape(text []byte) ([]byte, error) {
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch {
		case c == '"':
			return text, nil
		case c < ' ':
			return nil, badSyntax("not JSON: a string contains the control character %q, which must be escaped", rune(c))
		case c != '\\':
			text = append(text, c)
			continue
		}
		if s.pos == len(s.data) {
			break
		}
		c = s.data[s.pos]
		s.pos++
		switch c {
		case '"', '\\', '/':
			text = append(text, c)
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		case 'u':
			r, err := s.escapedRune()
			if err != nil {
				return nil, err
			}
			text = utf8.AppendRune(text, r)
		default:
			return nil, badSyntax("not JSON: a string contains a backslash before %q", rune(c))
		}
	}
	return nil, badSyntax("not JSON: the body ends inside a string")
}

// escapedRune consumes what follows \u. Half of a surrogate pair is refused,
// which encoding/json would silently replace, and so is NUL, which PostgreSQL
// cannot keep.
func (s *scanner) escapedRune() (rune, error) {
	high, err := s.hex()
	switch {
	case err != nil:
		return 0, err
	case high == 0:
		return 0, badSyntax(`a string contains \u0000`)
	case !utf16.IsSurrogate(high):
		return high, nil
	}
	half := badSyntax("a string contains half of a surrogate pair")
	if len(s.data)-s.pos < 2 || s.data[s.pos] != '\\' || s.data[s.pos+1] != 'u' {
		return 0, half
	}
	s.pos += 2
	low, err := s.hex()
	if err != nil {
		return 0, err
	}
	if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
		return r, nil
	}
	return 0, half
}

func (s *scanner) hex() (rune, error) {
	if len(s.data)-s.pos >= 4 {
		if n, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16); err == nil {
			s.pos += 4
			return rune(n), nil
		}
	}
	return 0, badSyntax(`not JSON: a string contains a \u without four hexadecimal digits`)
}
