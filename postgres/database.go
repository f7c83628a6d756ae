package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says which database to use and how much of it. Only URL is required.
type Config struct {
	// URL is a PostgreSQL connection string, "postgres://user@host/db" or
	// "host=... dbname=...". A password is better left to PGPASSFILE.
	URL string

	// Schema holds the ticker's tables; default "courante". With another value
	// the schema of each context is prefixed with it and "_", so that several
	// systems, or tests, share one database without seeing each other.
	Schema string

	// MaxConns bounds each of the three pools: of units, of the log's readers,
	// and of what contexts do by themselves; default 8. They fill as needed,
	// and gain little past about four busy connections.
	MaxConns int

	// Committers is how many connections, beside the pool, each store appends
	// on; default 2, so that one prepares and reads while the other writes.
	// More mean smaller groups: it pays only when the disk is slow to sync.
	Committers int

	// LockTimeout is how long a group of appends waits for a row that somebody
	// else's open transaction holds, before those who wait for it are set
	// apart so that the others go on; default 20 ms.
	LockTimeout time.Duration

	// AppendTimeout bounds the wait of an append that was set apart; after it
	// the append fails as transient. Default 5 s.
	AppendTimeout time.Duration

	// IdleInTransaction is after how long the server ends a session that left
	// a transaction open: such a transaction delays its events and holds back
	// vacuum. Default 1 min, negative for no limit.
	IdleInTransaction time.Duration

	// Logger hears of what the store repairs by itself, such as a committer
	// that reconnects; default slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.Committers == 0 {
		c.Committers = 2
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = 20 * time.Millisecond
	}
	if c.AppendTimeout == 0 {
		c.AppendTimeout = 5 * time.Second
	}
	if c.IdleInTransaction == 0 {
		c.IdleInTransaction = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) check() error {
	var problems []error
	if c.URL == "" {
		problems = append(problems, errors.New("postgres: no URL; set one such as postgres://user@localhost/courante"))
	}
	if err := checkName("schema", c.Schema); err != nil {
		problems = append(problems, err)
	}
	if c.MaxConns < 2 {
		problems = append(problems, fmt.Errorf("postgres: MaxConns is %d; units and their readers need at least 2", c.MaxConns))
	}
	if c.Committers < 1 {
		problems = append(problems, fmt.Errorf("postgres: Committers is %d; at least 1 is needed to append", c.Committers))
	}
	// Below a millisecond PostgreSQL reads the timeout as 0, which is for ever.
	if c.LockTimeout < time.Millisecond {
		problems = append(problems, fmt.Errorf("postgres: LockTimeout is %s; the least is 1ms", c.LockTimeout))
	}
	if c.AppendTimeout < c.LockTimeout {
		problems = append(problems, fmt.Errorf("postgres: AppendTimeout %s is below LockTimeout %s", c.AppendTimeout, c.LockTimeout))
	}
	return errors.Join(problems...)
}

// DefaultSchema is where the ticker's tables are if the configuration says
// nothing else.
const DefaultSchema = "courante"

// Names become schema names, parts of index names and arguments of tools: 40
// characters leave room for a prefix below PostgreSQL's limit of 63 bytes.
var validName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func checkName(what, name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("postgres: %s %q must be of lower case letters, digits and _, begin with a letter, and have at most 40 characters", what, name)
	}
	return nil
}

// Database is one PostgreSQL database: a pool of connections, the ticker that
// all logs in it share, and the stores opened on it. It implements
// courante.Database.
type Database struct {
	config Config
	schema string // the ticker's schema, quoted for use in SQL
	pool   *pgxpool.Pool
	epoch  int32 // incarnation of the cluster, from Open on

	committed chan struct{} // buffer of one: something was committed that may need a tick
	ticked    chan struct{} // buffer of one: another process has ticked

	log   logSide
	units *pgxpool.Pool // of units: as for the log's readers, but those must not wait behind a unit

	mu     sync.Mutex
	closed bool
	stores map[string]*Store
}

// Open connects, brings the ticker's schema up to date and learns which
// incarnation of the cluster this is. Nothing runs in the background until a
// store is opened.
func Open(ctx context.Context, config Config) (*Database, error) {
	return open(ctx, config, (*Database).Migrate)
}

// OpenExisting is Open for who comes to look: it creates and migrates nothing.
// A database that no program was ever started on is [ErrUnprepared], and so is
// one that is older than this program. See [Database.ExistingStore].
func OpenExisting(ctx context.Context, config Config) (*Database, error) {
	return open(ctx, config, func(db *Database, ctx context.Context) error {
		return db.checkMigrated(ctx, db.config.Schema, "migrations/database")
	})
}

func open(ctx context.Context, config Config, prepare func(*Database, context.Context) error) (*Database, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	poolConfig, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: the URL cannot be read: %w", err) // pgconn hides the password
	}
	poolConfig.MaxConns = int32(config.MaxConns)
	config.setSession(poolConfig.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, translate("connect", err)
	}
	db := &Database{
		config:    config,
		schema:    pgx.Identifier{config.Schema}.Sanitize(),
		pool:      pool,
		committed: make(chan struct{}, 1),
		ticked:    make(chan struct{}, 1),
		stores:    make(map[string]*Store),
	}
	err = prepare(db, ctx)
	if err == nil {
		err = db.begin(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return db, nil
}

// setSession sets what every session of ours runs with.
func (c Config) setSession(conn *pgx.ConnConfig) {
	params := conn.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "courante"
	}
	params["timezone"] = "UTC"
	// Our statements are short or stream; compiling them costs more than it
	// saves, and at the wrong moment.
	params["jit"] = "off"
	if c.IdleInTransaction > 0 {
		params["idle_in_transaction_session_timeout"] = milliseconds(c.IdleInTransaction)
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
}

func (db *Database) begin(ctx context.Context) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return translate("connect", err)
	}
	defer conn.Release()
	if db.epoch, err = db.epochOf(ctx, conn.Conn()); err != nil {
		return err
	}
	if err := db.openLog(ctx); err != nil {
		return err
	}
	db.units, err = openLogPool(ctx, db.pool.Config())
	return err
}

// Pool is the pool of connections, for read models and for what a context
// does in SQL of its own. It belongs to the Database.
func (db *Database) Pool() *pgxpool.Pool { return db.pool }

// Epoch is the number of the incarnation of the cluster that Open found.
func (db *Database) Epoch() int32 { return db.epoch }

// Close stops the stores: appends already handed over are committed, later
// ones fail with ErrClosed; then it closes the connections. Units must have
// ended.
func (db *Database) Close() {
	db.mu.Lock()
	stores := db.stores
	db.stores = nil
	closed := db.closed
	db.closed = true
	db.mu.Unlock()
	if closed {
		return
	}
	for _, s := range stores {
		s.close()
	}
	db.units.Close()
	db.log.close()
	db.pool.Close()
}

// Migrate brings the ticker's schema and the schemas of the registered logs up
// to date. Open and Store do so by themselves; it is for the operator who
// wants it done before the first start of a new version.
func (db *Database) Migrate(ctx context.Context) error {
	if err := db.migrate(ctx, db.config.Schema, sourceCourante, subdir(migrations, "migrations/database"), nil); err != nil {
		return err
	}
	logs, err := db.logs(ctx)
	if err != nil {
		return err
	}
	for name, schema := range logs {
		if err := db.migrateStore(ctx, name, schema); err != nil {
			return err
		}
	}
	return nil
}

func (db *Database) migrateStore(ctx context.Context, name, schema string) error {
	return db.migrate(ctx, schema, sourceCourante, subdir(migrations, "migrations/store"),
		map[string]string{"{name}": name})
}

// MigrateSchema applies a context's own numbered migrations to its schema (see
// [Store.Schema]), beside those of the store. {schema} in a file stands for the
// schema's name, quoted.
func (db *Database) MigrateSchema(ctx context.Context, schema string, files fs.FS) error {
	return db.migrate(ctx, schema, sourceContext, files, nil)
}

// Logs returns the names of all logs of the database, sorted: also of contexts
// that are not of this program.
func (db *Database) Logs(ctx context.Context) ([]string, error) {
	logs, err := db.logs(ctx)
	return slices.Sorted(maps.Keys(logs)), err
}

// logs returns the schema of each registered log by the log's name.
func (db *Database) logs(ctx context.Context) (map[string]string, error) {
	rows, err := db.pool.Query(ctx, "select name, schema_name from "+db.schema+".log")
	if err != nil {
		return nil, translate("read the registered logs", err)
	}
	logs := make(map[string]string)
	var name, schema string
	if _, err := pgx.ForEachRow(rows, []any{&name, &schema}, func() error {
		logs[name] = schema
		return nil
	}); err != nil {
		return nil, translate("read the registered logs", err)
	}
	return logs, nil
}

// signalCommitted tells the ticker that something was committed. It never
// blocks: one pending signal is as good as many.
func (db *Database) signalCommitted() {
	select {
	case db.committed <- struct{}{}:
	default:
	}
}
