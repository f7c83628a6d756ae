//go:build unix

// Package redisserver runs a Redis that is installed on the machine, on a port
// and in a folder of its own. It keeps nothing over a restart: what is in it can
// be had again.
package redisserver

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/courante-dev/courante/internal/child"
)

// Server is one Redis. It is used by one goroutine.
type Server struct {
	path, dir string
	port      int
	settings  []string
	cmd       *exec.Cmd
	exited    <-chan struct{}
}

// New prepares a server that works in the folder, with further settings such as
// "--maxmemory", "1mb". One that ends in .conf comes first, as a file that the
// server may write: Sentinels want one.
func New(dir string, settings ...string) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return &Server{path: path, dir: dir, port: l.Addr().(*net.TCPAddr).Port, settings: settings}, os.MkdirAll(dir, 0o755)
}

// URL is the server's address, the same after a restart.
func (s *Server) URL() string { return "redis://" + s.Address() }

// Address is host and port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// PID is the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Start returns when the server answers.
func (s *Server) Start() error {
	args := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir}
	if !slices.Contains(s.settings, "--sentinel") {
		args = append(args, "--save", "", "--appendonly", "no")
	}
	if len(s.settings) > 0 && strings.HasSuffix(s.settings[0], ".conf") {
		args = slices.Concat(s.settings, args)
	} else {
		args = append(args, s.settings...)
	}
	s.cmd = exec.Command(s.path, args...)
	var err error
	s.exited, err = child.StartServer(s.cmd, 20*time.Second, s.answers)
	return err
}

func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Address(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("PING\r\n"))
	answer := make([]byte, 7)
	n, _ := conn.Read(answer)
	return n == len(answer) && (string(answer) == "+PONG\r\n" || string(answer) == "-NOAUTH")
}

// Kill ends the server as a power cut does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// Pause stops the server in its tracks, with its connections open.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends the server in order.
func (s *Server) Stop() {
	if s.exited == nil {
		return
	}
	s.Resume()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		s.Kill()
	}
}

// Remove ends the server and deletes its folder.
func (s *Server) Remove() {
	if s.exited != nil {
		s.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

// FlushAll deletes all that the server keeps.
func (s *Server) FlushAll() error {
	conn, err := net.DialTimeout("tcp", s.Address(), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("FLUSHALL\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+OK\r\n" {
		return fmt.Errorf("FLUSHALL: %q, %w", answer, err)
	}
	return nil
}
