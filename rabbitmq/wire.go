package rabbitmq

import (
	"net"
	"sync"
	"time"
)

// wire is the network connection of a session.
//
// The client library makes a system call for each message. Who publishes many
// holds them back on the wire and sends them together, which spares both sides
// a part of the work for each.
type wire struct {
	net.Conn

	mu   sync.Mutex // guards what follows
	held int        // by so many, each of whom will flush
	buf  []byte
}

// wireMost is how much is held back, about 60 messages.
const wireMost = 64 << 10

// Write gives RabbitMQ its time to read; see writeTimeout.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == 0 && len(w.buf) == 0 {
		return w.write(p)
	}
	w.buf = append(w.buf, p...)
	if w.held > 0 && len(w.buf) < wireMost {
		return len(p), nil
	}
	return len(p), w.send()
}

func (w *wire) write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (w *wire) send() error {
	_, err := w.write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// hold holds back what is written until flush or release, or wireMost.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held++
}

// flush sends what is held back. Who waits for an answer flushes first.
func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 && w.send() != nil {
		w.Close() // which ends the session: the library does not write this again
	}
}

// release ends hold.
func (w *wire) release() {
	w.flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held--
}
