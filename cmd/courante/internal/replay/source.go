package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is held in memory of a file, whatever is in it.
const (
	maxRecord  = 1 << 20  // bytes of one line; the API takes no larger body either
	readBuffer = 64 << 10 // bytes
	maxWindow  = 64 << 20 // bytes that a zstd stream may refer back to; zstd -19 needs 8 MiB
)

// errTooLong is a line that nobody wrote by hand, or a quote that never ends.
var errTooLong = fmt.Errorf("a line is longer than %d bytes", maxRecord)

// file is an input that is read twice: once to check it, once to send it.
type file struct {
	path string
	temp bool // path is our copy of standard input
}

// openFile finds the input. Standard input ("-") is copied to a temporary file,
// because it is read twice.
func openFile(name string, stdin io.Reader) (*file, error) {
	if name != "-" {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, fmt.Errorf("%s is a folder; name a file", name)
		}
		if info.Mode().IsRegular() {
			return &file{path: name}, nil
		}
		pipe, err := os.Open(name) // such as <(zcat a.gz) of a shell
		if err != nil {
			return nil, err
		}
		defer pipe.Close()
		stdin = pipe
	}
	temp, err := os.CreateTemp("", "courante-replay-")
	if err != nil {
		return nil, fmt.Errorf("copy the input: %w", err)
	}
	f := &file{path: temp.Name(), temp: true}
	_, err = io.Copy(temp, stdin)
	if err = errors.Join(err, temp.Close()); err != nil {
		f.close()
		return nil, fmt.Errorf("copy the input: %w", err)
	}
	return f, nil
}

func (f *file) close() {
	if f.temp {
		os.Remove(f.path)
	}
}

// source is the text of a file, decompressed.
type source struct {
	text  *bufio.Reader
	hash  hash.Hash // of the text read so far
	meter *meter
	close func()
}

// open begins to read. What compresses the file is told by its first bytes, not
// by its name.
func (f *file) open() (*source, error) {
	raw, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	s := &source{hash: sha256.New(), close: func() { raw.Close() }}
	buffered := bufio.NewReaderSize(raw, readBuffer)
	head, _ := buffered.Peek(4) // an error shows again when it is read
	var text io.Reader = buffered
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		if text, err = gzip.NewReader(buffered); err != nil {
			s.close()
			return nil, fmt.Errorf("decompress: %w", err)
		}
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			s.close()
			return nil, fmt.Errorf("decompress: %w", err)
		}
		text = decoder
		s.close = func() { decoder.Close(); raw.Close() }
	}
	s.meter = &meter{from: io.TeeReader(text, s.hash)}
	s.meter.reset()
	s.text = bufio.NewReaderSize(s.meter, readBuffer)
	return s, nil
}

// sum is the hash of the text, once all of it was read. It is the same for a
// plain file and a compressed one.
func (s *source) sum() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// meter fails a line that does not end: the readers above it collect a line in
// memory before they look at it.
type meter struct {
	from   io.Reader
	left   int
	failed error // why the text ends before its end
}

// reset is called at the end of each line. What the buffers above read ahead
// belongs to the next line, so they may have that much more.
func (m *meter) reset() { m.left = maxRecord + 2*readBuffer }

// Read reads on unless the line is too long.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		m.failed = errTooLong
		return 0, errTooLong
	}
	n, err := m.from.Read(p)
	m.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		m.failed = err
	}
	return n, err
}

// format is what a file is written in.
type format string

const (
	retail format = "online-retail"
	ndjson format = "ndjson"
)

// format looks at the first character of the text: an object of NDJSON or the
// name of a column.
func (s *source) format() (format, error) {
	// Some editors put a mark in front of UTF-8. A text that is too short to
	// have one is looked at below.
	if head, _ := s.text.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		if _, err := s.text.Discard(3); err != nil {
			return "", err
		}
	}
	for n := 1; ; n++ {
		head, err := s.text.Peek(n)
		if len(head) < n {
			if errors.Is(err, io.EOF) {
				return "", errors.New("the file is empty")
			}
			return "", unreadable(0, err)
		}
		switch head[n-1] {
		case ' ', '\t', '\r', '\n':
			if n == readBuffer {
				return "", errors.New("the file begins with nothing but spaces")
			}
		case '{':
			return ndjson, nil
		default:
			return retail, nil
		}
	}
}

// unreadable is the error of a file that ends or breaks after a line.
func unreadable(line int, err error) error {
	what := "cannot be read on"
	switch {
	case errors.Is(err, errTooLong):
		what = "does not go on as text"
	case errors.Is(err, io.ErrUnexpectedEOF):
		what = "is cut off: the compressed data ends too early"
	}
	return fmt.Errorf("the file %s after line %d: %w", what, line, err)
}
