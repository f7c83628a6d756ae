package link_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/courante-dev/courante/internal/link"
)

// echo is a server that says again what it hears.
func echo(t *testing.T) *link.Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	way, err := link.New("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	return way
}

func dial(t *testing.T, l *link.Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(c net.Conn, patience time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "hello\n" {
		return errors.New("heard " + line)
	}
	return err
}

func TestFaults(t *testing.T) {
	t.Parallel()
	l := echo(t)
	c := dial(t, l)
	if err := ask(c, 5*time.Second); err != nil {
		t.Fatalf("whole: %v", err)
	}
	const delay = 50 * time.Millisecond
	l.Set(link.Fault{Delay: delay})
	began := time.Now()
	if err := ask(c, 5*time.Second); err != nil || time.Since(began) < 2*delay {
		t.Errorf("delayed: %v after %s, want an answer after %s", err, time.Since(began), 2*delay)
	}

	l.Set(link.Fault{Silent: true})
	if err := ask(c, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silent: %v, want no answer", err)
	}
	l.Set(link.Fault{})
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after silence: %v, want the connection reset", err)
	}

	c = dial(t, l)
	if err := ask(c, 5*time.Second); err != nil {
		t.Fatalf("mended: %v", err)
	}
	l.Set(link.Fault{Cut: true})
	if err := ask(c, 5*time.Second); err == nil {
		t.Error("cut: it answers")
	}
	if c, err := net.Dial("tcp", l.Address()); err == nil {
		if ask(c, 5*time.Second) == nil {
			t.Error("cut: a new connection answers")
		}
		c.Close()
	}
	l.Set(link.Fault{})
	if err := ask(dial(t, l), 5*time.Second); err != nil {
		t.Errorf("mended again: %v", err)
	}
}
