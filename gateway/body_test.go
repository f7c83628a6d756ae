package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante/gateway"
)

// listen serves the gateway on a connection and returns its address.
func listen(t *testing.T, gw *gateway.Gateway) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := gw.Server("")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(gateway.Problems(l)); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

const post = "POST /v1/things HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"

// TestSlowBodyIsGivenUp: a caller who sends his body drop by drop holds no
// request for ever.
func TestSlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	gw := serve(t, gateway.Config{BodyTimeout: 50 * time.Millisecond}, hello)
	_, answers := dial(t, listen(t, gw), fmt.Sprintf(post, 100, `{"name":`))
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s, want a problem with 408", res.StatusCode, res.Header.Get("Content-Type"))
	}
}

// TestTheBodysTimeIsNotTheOperations: an operation may take longer than a body
// may take to arrive.
func TestTheBodysTimeIsNotTheOperations(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	gw := serve(t, gateway.Config{BodyTimeout: limit}, slowHello(4*limit))
	_, answers := dial(t, listen(t, gw), fmt.Sprintf(post, 12, `{"name":"x"}`))
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200", res.StatusCode)
	}
}

// TestConnectionSurvivesARefusal: a body that was too large is read to its end,
// so the answer arrives and the connection serves the next request.
func TestConnectionSurvivesARefusal(t *testing.T) {
	t.Parallel()
	gw := serve(t, gateway.Config{MaxBody: 1 << 20}, hello)
	large := `{"name":"` + strings.Repeat("x", 4<<20) + `"}`
	conn, answers := dial(t, listen(t, gw), fmt.Sprintf(post, len(large), large))
	for _, want := range []int{http.StatusRequestEntityTooLarge, http.StatusOK} {
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("got %d, want %d", res.StatusCode, want)
		}
		if want != http.StatusOK {
			if _, err := fmt.Fprintf(conn, post, 12, `{"name":"x"}`); err != nil {
				t.Fatal(err)
			}
		}
	}
}
