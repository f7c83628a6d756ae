//go:build unix

// Package rabbitserver runs a RabbitMQ that is installed on the machine, on
// ports and in a folder of its own.
package rabbitserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/courante-dev/courante/internal/child"
)

// Server is one RabbitMQ, alone or a member of a [Cluster]. It is used by one
// goroutine.
type Server struct {
	dir, node  string
	port, dist int
	epmdPort   int
	joins      bool // a member that is there, whose epmd names it
	epmd       *exec.Cmd
	cmd        *exec.Cmd
	exited     <-chan struct{}
}

// URL is the server's address, the same after a restart.
func (s *Server) URL() string { return fmt.Sprintf("amqp://guest:guest@%s/", s.Address()) }

// Address is host and port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Pid is the id of the server's process group.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server as a power cut of its machine does.
func (s *Server) Kill() {
	killGroup(s.cmd)
	<-s.exited
}

// Pause stops the server in its tracks, with its connections open.
func (s *Server) Pause() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGCONT) }

// Control runs rabbitmqctl and returns what it says.
func (s *Server) Control(args ...string) (string, error) {
	out, err := s.command("rabbitmqctl", args...).CombinedOutput()
	return string(out), err
}

// rabbitBinaries is where Debian's package has the programs themselves: those
// in the path insist on a user of their own.
const rabbitBinaries = "/usr/lib/rabbitmq/bin"

// New prepares a server that keeps its data in the folder, which nobody else
// uses. settings are further lines of its rabbitmq.conf.
func New(dir string, settings ...string) (*Server, error) { return prepare(dir, nil, settings) }

// prepare prepares a server that, if first is not nil, joins its cluster.
func prepare(dir string, first *Server, settings []string) (*Server, error) {
	if _, err := os.Stat(filepath.Join(rabbitBinaries, "rabbitmq-server")); err != nil {
		return nil, err
	}
	s := &Server{dir: dir, node: "courante@localhost"} // of an epmd of our own, so it has no namesake
	for _, port := range []*int{&s.port, &s.dist, &s.epmdPort} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that they differ
		*port = l.Addr().(*net.TCPAddr).Port
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if first != nil {
		s.joins, s.epmdPort, s.node = true, first.epmdPort, filepath.Base(dir)+"@localhost"
		settings = append(settings, "cluster_formation.classic_config.nodes.1 = "+first.node, "cluster_formation.classic_config.nodes.2 = "+s.node)
	}
	files := map[string]string{
		".erlang.cookie": "courante",
		"plugins":        "[].\n",
		"rabbitmq.conf": fmt.Sprintf("listeners.tcp.local = 127.0.0.1:%d\nloopback_users = none\n", s.port) +
			// Test machines are small and full.
			"disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 1GB\nlog.console = false\nlog.file.level = warning\n" +
			strings.Join(append(settings, ""), "\n"),
	}
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
			return nil, err
		}
	}
	if os.Getuid() == 0 {
		uid, gid, err := otherAccount()
		if err != nil {
			return nil, err
		}
		for name := range files {
			if err := os.Chown(filepath.Join(s.dir, name), uid, gid); err != nil {
				return nil, err
			}
		}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// otherAccount is whom root runs the server as, which refuses root.
func otherAccount() (uid, gid int, err error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return 0, 0, err
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	path := filepath.Join(rabbitBinaries, program)
	if program == "epmd" {
		path = program
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	in := func(name string) string { return filepath.Join(s.dir, name) }
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C.UTF-8",
		"RABBITMQ_NODENAME=" + s.node,
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.dist),
		"RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("plugins"),
		"RABBITMQ_MNESIA_BASE=" + in("data"),
		"RABBITMQ_LOG_BASE=" + in("log"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + in("generated"),
		"RABBITMQ_PID_FILE=" + in("pid"),
		fmt.Sprintf("ERL_EPMD_PORT=%d", s.epmdPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
	}
	if os.Getuid() == 0 {
		uid, gid, err := otherAccount()
		if err == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	return cmd
}

// Start returns when the server answers.
func (s *Server) Start() error {
	if s.epmd == nil && !s.joins {
		s.epmd = s.command("epmd", "-port", strconv.Itoa(s.epmdPort), "-address", "127.0.0.1")
		if _, err := child.Start(s.epmd); err != nil {
			return fmt.Errorf("start epmd: %w", err)
		}
	}
	s.cmd = s.command("rabbitmq-server")
	var err error
	s.exited, err = child.StartServer(s.cmd, 3*time.Minute, s.answers) // three members at once, on a busy machine
	return err
}

// answers reports whether the server greets who speaks its protocol.
func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Address(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Write([]byte("AMQP\x00\x00\x09\x01"))
	_, err = io.ReadFull(conn, make([]byte, 8))
	return err == nil
}

// killGroup returns when all processes of the group are gone, of which the
// first is not always the last: they would still write files.
func killGroup(cmd *exec.Cmd) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) == nil {
		select {
		case <-poll.C:
		case <-deadline: // nobody collects the dead
			return
		}
	}
}

// Stop ends the server in order, so that it need not recover.
func (s *Server) Stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(20 * time.Second):
		}
	}
	s.end()
}

// Remove ends the server and deletes its data.
func (s *Server) Remove() {
	s.end()
	_ = os.RemoveAll(s.dir)
}

// end kills what still runs.
func (s *Server) end() {
	for _, cmd := range []*exec.Cmd{s.cmd, s.epmd} {
		if cmd != nil && cmd.Process != nil {
			killGroup(cmd)
		}
	}
	if s.exited != nil {
		<-s.exited
	}
}
