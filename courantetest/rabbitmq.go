//go:build unix

package courantetest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rabbit is the RabbitMQ that the tests of one process share.
var rabbit struct {
	once    sync.Once
	running *RabbitMQ
	url     string
	err     error
}

// RabbitMQURL is the server for tests: that of COURANTE_TEST_RABBITMQ_URL, or
// one that the first test of the process starts from the RabbitMQ installed on
// the machine, which takes some seconds. Tests share it, so each has a prefix
// of its own; see [RabbitMQPrefix]. The package's TestMain has to call [Main].
func RabbitMQURL(t testing.TB) string {
	t.Helper()
	r := &rabbit
	r.once.Do(func() {
		if r.url = os.Getenv("COURANTE_TEST_RABBITMQ_URL"); r.url != "" {
			return
		}
		if r.running, r.err = newRabbitMQ(); r.err == nil {
			r.url, r.err = r.running.URL(), r.running.start()
		}
	})
	if r.err != nil {
		t.Fatalf("no RabbitMQ: %v; install it (Debian: rabbitmq-server), or set COURANTE_TEST_RABBITMQ_URL", r.err)
	}
	return r.url
}

// RabbitMQPrefix is a prefix of names that no other test uses.
func RabbitMQPrefix() string {
	return fmt.Sprintf("t%d-%d-%d", os.Getpid(), time.Now().UnixMilli(), lastSchema.Add(1))
}

// RabbitMQ is a server of a test's own, to be killed, stopped and started
// again. It keeps its data until the test ends.
type RabbitMQ struct {
	dir        string
	port, dist int
	epmdPort   int
	epmd       *exec.Cmd
	cmd        *exec.Cmd
	exited     <-chan struct{}
}

// StartRabbitMQ starts a server of the test's own.
func StartRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	s, err := newRabbitMQ()
	if err == nil {
		t.Cleanup(s.remove)
		err = s.start()
	}
	if err != nil {
		t.Fatalf("no RabbitMQ: %v; install it (Debian: rabbitmq-server)", err)
	}
	return s
}

// URL is the server's address, the same after a restart.
func (s *RabbitMQ) URL() string { return fmt.Sprintf("amqp://guest:guest@%s/", s.Address()) }

// Address is host and port.
func (s *RabbitMQ) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Pid is the id of the server's process group.
func (s *RabbitMQ) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server as a power cut of its machine does.
func (s *RabbitMQ) Kill() {
	killGroup(s.cmd)
	<-s.exited
}

// Start starts the server again, after Kill, on what it had written.
func (s *RabbitMQ) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the server in its tracks, with its connections open.
func (s *RabbitMQ) Pause() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGSTOP) }

// Resume lets it go on.
func (s *RabbitMQ) Resume() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGCONT) }

// Control runs rabbitmqctl.
func (s *RabbitMQ) Control(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.command("rabbitmqctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("rabbitmqctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// rabbitBinaries is where Debian's package has the programs themselves: those
// in the path insist on a user of their own.
const rabbitBinaries = "/usr/lib/rabbitmq/bin"

func newRabbitMQ() (*RabbitMQ, error) {
	if _, err := os.Stat(filepath.Join(rabbitBinaries, "rabbitmq-server")); err != nil {
		return nil, err
	}
	s := &RabbitMQ{}
	for _, port := range []*int{&s.port, &s.dist, &s.epmdPort} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that they differ
		*port = l.Addr().(*net.TCPAddr).Port
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "courante-rabbitmq-"); err != nil {
		return nil, err
	}
	files := map[string]string{
		".erlang.cookie": "courante",
		"plugins":        "[].\n",
		"rabbitmq.conf": fmt.Sprintf("listeners.tcp.local = 127.0.0.1:%d\nloopback_users = none\n", s.port) +
			// Test machines are small and full.
			"disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 1GB\nlog.console = false\nlog.file.level = warning\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o400); err != nil {
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

func (s *RabbitMQ) command(program string, args ...string) *exec.Cmd {
	path := filepath.Join(rabbitBinaries, program)
	if program == "epmd" {
		path = program
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	in := func(name string) string { return filepath.Join(s.dir, name) }
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C.UTF-8",
		fmt.Sprintf("RABBITMQ_NODENAME=courante%d@localhost", s.port),
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		uid, gid, err := otherAccount()
		if err == nil {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return cmd
}

// start returns when the server answers.
func (s *RabbitMQ) start() error {
	if s.epmd == nil {
		s.epmd = s.command("epmd", "-port", strconv.Itoa(s.epmdPort), "-address", "127.0.0.1")
		if _, err := launch(s.epmd); err != nil {
			return fmt.Errorf("start epmd: %w", err)
		}
	}
	s.cmd = s.command("rabbitmq-server")
	var out bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	var err error
	if s.exited, err = launch(s.cmd); err != nil {
		return err
	}
	deadline := time.After(time.Minute)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !s.answers() {
		select {
		case <-s.exited:
			return fmt.Errorf("RabbitMQ ended: %s", out.String())
		case <-deadline:
			s.Kill()
			return fmt.Errorf("RabbitMQ does not answer: %s", out.String())
		case <-poll.C:
		}
	}
	return nil
}

// answers reports whether the server greets who speaks its protocol.
func (s *RabbitMQ) answers() bool {
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

// remove ends the server and deletes its data.
func (s *RabbitMQ) remove() {
	for _, cmd := range []*exec.Cmd{s.cmd, s.epmd} {
		if cmd != nil && cmd.Process != nil {
			killGroup(cmd)
		}
	}
	if s.exited != nil {
		<-s.exited
	}
	_ = os.RemoveAll(s.dir)
}

// launch starts a child that ends with us, however we end. The kernel takes the
// end of the thread that started it for ours, so that one stays.
func launch(cmd *exec.Cmd) (<-chan struct{}, error) {
	endWithParent(cmd.SysProcAttr)
	started, exited := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	return exited, <-started
}
