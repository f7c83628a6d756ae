package courante

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// ErrBadToken says that a text is no token: it was cut, mistyped, or never one.
var ErrBadToken = errors.New("not a token")

// maxTokenText bounds what ParseToken looks at: names of logs are short.
const maxTokenText = 256

// String writes the token in the form that callers carry around: opaque to
// them, safe in a header and in a URL, "" for the zero token. Inside is
// "log.epoch.xid" and a checksum, so that a token that was cut or mistyped is
// noticed instead of standing for another moment. It is no secret and grants
// nothing.
func (t Token) String() string {
	if t == (Token{}) {
		return ""
	}
	text := []byte(fmt.Sprintf("%s.%d.%d", t.Log, t.Epoch, t.Xid))
	text = binary.BigEndian.AppendUint32(text, crc32.ChecksumIEEE(text))
	return base64.RawURLEncoding.EncodeToString(text)
}

// MarshalText writes the token as String does.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *Token) UnmarshalText(text []byte) (err error) {
	*t, err = ParseToken(string(text))
	return err
}

// ParseToken reads what [Token.String] writes; "" is the zero token. Anything
// else gives an error that wraps [ErrBadToken].
func ParseToken(text string) (Token, error) {
	if text == "" {
		return Token{}, nil
	}
	if len(text) > maxTokenText {
		return Token{}, fmt.Errorf("%w: too long", ErrBadToken)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(data) < 4 {
		return Token{}, ErrBadToken
	}
	data, sum := data[:len(data)-4], data[len(data)-4:]
	if binary.BigEndian.Uint32(sum) != crc32.ChecksumIEEE(data) {
		return Token{}, fmt.Errorf("%w: it was cut or changed", ErrBadToken)
	}
	// The log's name may hold dots, the numbers may not: read from the end.
	rest, xid, ok := cutLast(string(data))
	log, epoch, ok2 := cutLast(rest)
	if !ok || !ok2 || log == "" {
		return Token{}, ErrBadToken
	}
	t := Token{Log: log}
	if t.Xid, err = strconv.ParseUint(xid, 10, 64); err != nil {
		return Token{}, ErrBadToken
	}
	n, err := strconv.ParseInt(epoch, 10, 32)
	if err != nil {
		return Token{}, ErrBadToken
	}
	t.Epoch = int32(n)
	if t.String() != text { // leading zeros, a plus sign: one token has one form
		return Token{}, ErrBadToken
	}
	return t, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
