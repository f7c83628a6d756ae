//go:build linux || darwin

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/courantetest"
)

// TestMain makes the test binary the program itself when a test starts it as
// one: what is tested is the true main, with signals and exit codes.
func TestMain(m *testing.M) {
	if os.Getenv("COURANTE_TEST_AS_PROGRAM") != "" {
		main()
	}
	courantetest.Main(m)
}

// process is a running program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	ready  app.Ready
	exited chan struct{}
	code   int

	mu     sync.Mutex // guards stderr
	stderr bytes.Buffer
}

// Write takes what the program says on standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// command is the program with its arguments, in a clean environment.
func command(t *testing.T, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"COURANTE_TEST_AS_PROGRAM=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "COURANTE_DATA=" + dir}, env...)
	return cmd
}

// dataDir is a folder that the account of PostgreSQL may enter, which those of
// t.TempDir are not.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "courante-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// up starts the system on the folder and returns when it is ready.
func up(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return upOn(t, dir, "127.0.0.1:0", env...)
}

// upOn is up at an address.
func upOn(t *testing.T, dir, address string, env ...string) *process {
	t.Helper()
	return startUp(t, command(t, dir, env, "up", "--json", "--listen", address))
}

// fleet is the system as processes, two of each service, over that RabbitMQ.
func fleet(t *testing.T, rabbit string) *process {
	t.Helper()
	p := startUp(t, command(t, dataDir(t), []string{"COURANTE_RABBITMQ_URL=" + rabbit}, "fleet", "--json", "--listen", "127.0.0.1:0", "--instances", "2"))
	p.until("the fleet is ready", p.isReady, func() any { return p.text("/readyz") })
	return p
}

// startUp starts a program with "up --json" and returns when it is ready.
func startUp(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Stderr = p
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	line := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		first, _ := lines.ReadString('\n')
		line <- first
		_, _ = io.Copy(io.Discard, lines)
		_ = p.cmd.Wait() // the code says it all
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	select {
	case text := <-line:
		if err := json.Unmarshal([]byte(text), &p.ready); err != nil || !p.ready.Ready {
			<-p.exited
			t.Fatalf("up said %q and exited with %d:\n%s", text, p.code, p.said())
		}
	case <-time.After(time.Minute):
		t.Fatalf("up is not ready after a minute:\n%s", p.said())
	}
	return p
}

// end waits for the exit and returns its code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(40 * time.Second):
		p.t.Fatalf("the program does not end:\n%s", p.said())
	}
	return p.code
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// run runs another command on the system's folder.
func (p *process) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := command(p.t, p.ready.Data, nil, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// call sends a request and decodes the answer.
func (p *process) call(method, path, body string, headers ...string) (status int, answer map[string]any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.ready.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		p.t.Fatalf("%s %s: %d, %v", method, path, res.StatusCode, err)
	}
	return res.StatusCode, answer
}

// isReady asks /readyz.
func (p *process) isReady() bool {
	res, err := http.Get(p.ready.URL + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (p *process) text(path string) string {
	p.t.Helper()
	res, err := http.Get(p.ready.URL + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

// order is the body of an order.
func order(id, token string) string {
	return `{"order_id": "` + id + `", "customer_id": "17850", "currency": "GBP",
		"lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}],
		"payment": {"method": "card", "token": "` + token + `"}, "ship_to": {"country": "GB"}}`
}

func (p *process) place(id, token string, headers ...string) {
	p.t.Helper()
	status, answer := p.call(http.MethodPost, "/v1/orders", order(id, token), headers...)
	if status != http.StatusCreated {
		p.t.Fatalf("place %s: %d %v", id, status, answer)
	}
}

// becomes waits until the order has the status.
func (p *process) becomes(id, status string) map[string]any {
	p.t.Helper()
	var answer map[string]any
	p.until("order "+id+" is "+status, func() bool {
		_, answer = p.call(http.MethodGet, "/v1/orders/"+id, "")
		return answer["status"] == status
	}, func() any { return answer })
	return answer
}

// until polls a condition, for half a minute at most.
func (p *process) until(what string, holds func() bool, state func() any) {
	p.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			p.t.Fatalf("%s: not within 30 s; last seen: %v\n%s", what, state(), p.said())
		case <-p.exited:
			p.t.Fatalf("%s: the program exited with %d\n%s", what, p.code, p.said())
		case <-poll.C:
		}
	}
}
