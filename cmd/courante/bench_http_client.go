package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"
)

// loadConn is one keep-alive connection of the load. It sends requests that are
// ready as bytes and looks at no more of an answer than it must: on a machine
// that client and server share, what the client costs is taken from the server.
type loadConn struct {
	net.Conn
	in   *bufio.Reader
	body []byte // of the last answer
}

// loadAnswer is what the load wants to know of an answer. Its slices are good until
// the connection's next use.
type loadAnswer struct {
	status int
	token  []byte // Courante-Token
	body   []byte
}

// answerTimeout is when a server that does not answer has collapsed. It is more
// than the server itself gives a request.
const answerTimeout = 70 * time.Second

func dialLoad(ctx context.Context, address string) (*loadConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &loadConn{Conn: c, in: bufio.NewReaderSize(c, 8<<10)}, nil
}

var (
	lengthHeader = []byte("content-length:")
	tokenHeader  = []byte("courante-token:")
)

// do sends a request and reads its answer.
func (c *loadConn) do(request []byte) (a loadAnswer, err error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return a, err
	}
	if _, err := c.Write(request); err != nil {
		return a, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return a, fmt.Errorf("not an answer: %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("not an answer: %q", line)
	}
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return a, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if value, ok := header(line, lengthHeader); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return a, fmt.Errorf("not a length: %q", line)
			}
		}
		if value, ok := header(line, tokenHeader); ok {
			a.token = bytes.Clone(value)
		}
	}
	if length < 0 { // it is long, and comes in chunks
		if a.body, err = io.ReadAll(httputil.NewChunkedReader(c.in)); err != nil {
			return a, err
		}
		_, err = c.in.ReadSlice('\n') // behind the last chunk
		return a, err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	a.body = c.body[:length]
	_, err = io.ReadFull(c.in, a.body)
	return a, err
}

func header(line, name []byte) (value []byte, ok bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}
