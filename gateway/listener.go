package gateway

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
)

// Problems returns l with connections on which net/http's own answers are
// problems as well. It gives them in plain text, below any handler, to requests
// of which it cannot read even the header.
func Problems(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept waits for the next connection.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return conn{tcp}, nil // keeps the methods that net/http looks for
	}
	return c, err
}

type conn struct{ *net.TCPConn }

// plain is how net/http begins the header of such an answer. Those of handlers
// have more in it, a date at least.
var plain = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// Write sends data, or a problem in its place.
func (c conn) Write(data []byte) (int, error) {
	line, _, own := bytes.Cut(data[:min(len(data), 200)], plain)
	if !own || bytes.Contains(line, []byte("\r\n")) {
		return c.TCPConn.Write(data)
	}
	words := bytes.SplitN(line, []byte(" "), 3) // HTTP/1.1 400 Bad Request
	if len(words) < 3 {
		return c.TCPConn.Write(data)
	}
	status, err := strconv.Atoi(string(words[1]))
	if err != nil {
		return c.TCPConn.Write(data)
	}
	detail := "this is not an HTTP request that can be read"
	switch status {
	case http.StatusRequestHeaderFieldsTooLarge:
		detail = "the header is too large"
	case http.StatusNotImplemented:
		detail = "this transfer coding is not known here"
	}
	body := newProblem(status, detail).encode()
	answer := bytes.NewBuffer(nil)
	answer.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\nContent-Type: " + problemType +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\nConnection: close\r\n\r\n")
	answer.Write(body)
	if _, err := c.TCPConn.Write(answer.Bytes()); err != nil {
		return 0, err
	}
	return len(data), nil
}
