//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// makeServerDir makes the folder and returns its true path, which is how the
// kernel names it as the working folder of the server's processes.
func makeServerDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// lockServerDir claims the folder for this process. The kernel gives the lock
// back when the process ends, however it ends, so it is never stale.
func lockServerDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "courante.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, _ := os.ReadFile(f.Name())
		f.Close()
		return nil, fmt.Errorf("process %s uses this folder: stop it, or choose another folder", strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// account is the user that the server runs as.
type account struct {
	name     string
	uid, gid uint32
	other    bool // it is not us: we are root and step down
}

// serverAccount chooses the account: ourselves, or if we are root the owner of
// the data, the user postgres or nobody.
func serverAccount(data string) (account, error) {
	me := uint32(os.Geteuid())
	var owner *syscall.Stat_t
	info, err := os.Stat(data)
	if err == nil {
		owner, _ = info.Sys().(*syscall.Stat_t)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return account{}, err
	}
	switch {
	case me != 0 && owner != nil && owner.Uid != me:
		return account{}, fmt.Errorf("%s belongs to user %s: run as that user or as root, or choose another folder", data, userName(owner.Uid))
	case me != 0:
		return account{name: userName(me), uid: me, gid: uint32(os.Getegid())}, nil
	case owner != nil && owner.Uid != 0:
		return account{name: userName(owner.Uid), uid: owner.Uid, gid: owner.Gid, other: true}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return account{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody: " +
		"run as an ordinary user, or add one (useradd --system postgres)")
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// credential is what a child needs to become the account; nil if it is us.
func (a account) credential() *syscall.Credential {
	if !a.other {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own gives a file of ours to the account.
func (a account) own(name string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(name, int(a.uid), int(a.gid))
}

// canReach checks that the account may pass through the folder and all above
// it, where PostgreSQL would only say "Permission denied".
func (a account) canReach(dir string) error {
	if !a.other {
		return nil
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		pass := fs.FileMode(0o001)
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == a.uid {
			pass = 0o100
		} else if ok && st.Gid == a.gid {
			pass = 0o010
		}
		if info.Mode()&pass == 0 {
			return fmt.Errorf("user %s, as whom PostgreSQL runs because it refuses root, cannot pass through %s (mode %04o): "+
				"choose a folder elsewhere, such as /var/lib/courante, or run chmod o+x %s", a.name, dir, info.Mode().Perm(), dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// makePrivate makes a folder that only the account may enter.
func (a account) makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return a.own(dir)
}

// maxSocketPath is the shortest limit of the systems we run on (macOS; Linux
// has 107). A longer path cannot be bound.
const maxSocketPath = 103

// makeSocketDir makes the folder of the socket: Dir/run, or a new one in the
// system's temporary folder if that name is too long for a socket. Being
// private it is the access control: whoever gets in is trusted.
func (s *Server) makeSocketDir() error {
	dir := filepath.Join(s.dir, "run")
	if len(filepath.Join(dir, ".s.PGSQL.65535")) > maxSocketPath {
		short, err := os.MkdirTemp("", "courante-")
		if err != nil {
			return err
		}
		dir = short
	}
	s.socket = dir
	if err := s.account.makePrivate(dir); err != nil {
		return err
	}
	return s.account.canReach(dir)
}

// initData makes the data folder on the first start. It appears under its
// name only when it is complete, so a start that is cut short leaves nothing
// that the next one could take for data.
func (s *Server) initData(ctx context.Context) error {
	if _, err := os.Stat(s.data()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	password, err := s.password()
	if err != nil {
		return err
	}
	unfinished := s.data() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := s.account.makePrivate(unfinished); err != nil {
		return err
	}
	secret := filepath.Join(s.socket, "initdb-password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(secret)
	if err := s.account.own(secret); err != nil {
		return err
	}

	s.log.InfoContext(ctx, "making a new PostgreSQL cluster", "dir", s.dir, "version", s.binaries.version)
	if err := s.initdb(ctx, unfinished, secret); err != nil {
		return err
	}
	if err := os.Rename(unfinished, s.data()); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s *Server) initdb(ctx context.Context, data, secret string) error {
	cmd := s.command("initdb", "--pgdata="+data, "--username="+superuser, "--pwfile="+secret,
		"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
	s.output.forget()
	c, err := launch(cmd, s.output)
	if err != nil {
		return err
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
		c.cmd.Process.Kill()
		<-c.exited
		return context.Cause(ctx)
	}
	if c.status != nil {
		return fmt.Errorf("initdb: %w", c.failure())
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// clearOrphans ends what a former server left in the data folder: one whose
// owner was killed and that is still shutting down, or backends that outlived
// a killed postmaster. Until they are gone, a new postmaster refuses to start.
// We hold the folder's lock, so nobody living owns them.
func (s *Server) clearOrphans(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	force := time.After(fastShutdown)
	sig := syscall.SIGINT
	told := map[int]syscall.Signal{}
	for {
		pids, err := processesIn(s.data())
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return s.dropStalePid()
		}
		// A postmaster stops its backends itself.
		if pid, _ := readPostmasterPid(s.data()); sig == syscall.SIGINT && slices.Contains(pids, pid) {
			pids = []int{pid}
		}
		for _, pid := range pids {
			if told[pid] != sig {
				s.log.WarnContext(ctx, "ending a process that a former PostgreSQL left", "dir", s.dir, "pid", pid, "signal", sig)
				syscall.Kill(pid, sig)
				told[pid] = sig
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-force:
			sig = syscall.SIGKILL
		case <-poll.C:
		}
	}
}

// dropStalePid removes postmaster.pid once no process of the server is left.
// PostgreSQL does so itself when no process has that number, but when another
// program has it by now, as often in a restarted container, it trusts the
// number and refuses to start.
func (s *Server) dropStalePid() error {
	err := os.Remove(filepath.Join(s.data(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
