package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

// Store is the memory of one bounded context, in a schema of its own. It
// implements courante.Store. It is safe for use by several goroutines, and
// several processes may open the same one.
type Store struct {
	db     *Database
	name   string
	schema string // as it is, unquoted
	quoted string // for use in SQL

	// part is where new events go, as last seen. It may be behind: an insert
	// into a closed part fails, and the store looks again.
	part atomic.Int32

	texts sync.Map // SQL: with {schema} or a part's number, to the text for this store

	reader logReader

	inline atomic.Pointer[inline] // never nil

	appender *appender
}

// Store opens the store of the context, creating or migrating its schema and
// registering its log with the ticker. Opened twice, it is the same Store.
func (db *Database) Store(ctx context.Context, name string) (*Store, error) {
	if err := checkName("log", name); err != nil {
		return nil, err
	}
	schema := db.config.schemaOf(name)
	if schema == db.config.Schema {
		return nil, fmt.Errorf("postgres: a log cannot be named %q: the ticker's schema has that name", name)
	}
	return db.openStore(ctx, name, schema, func(s *Store) error {
		if err := db.migrateStore(ctx, name, schema); err != nil {
			return err
		}
		if err := db.registerLog(ctx, name, schema); err != nil {
			return err
		}
		return s.makePartitions(ctx)
	})
}

// ExistingStore is Store for who comes to look at what others keep there: it
// creates, migrates and registers nothing. A log that is not registered is
// [courante.ErrNotFound]; one whose schema is older than this program is
// [ErrUnprepared].
func (db *Database) ExistingStore(ctx context.Context, name string) (*Store, error) {
	logs, err := db.logs(ctx)
	if err != nil {
		return nil, err
	}
	schema := logs[name]
	if schema == "" {
		return nil, fmt.Errorf("postgres: open log %s: %w", name, courante.ErrNotFound)
	}
	return db.openStore(ctx, name, schema, func(*Store) error {
		return db.checkMigrated(ctx, schema, "migrations/store")
	})
}

// schemaOf is the name of the schema that a log gets.
func (c Config) schemaOf(log string) string {
	if c.Schema == DefaultSchema {
		return log
	}
	return c.Schema + "_" + log
}

func (db *Database) openStore(ctx context.Context, name, schema string, prepare func(*Store) error) (*Store, error) {
	// The lock is held over the migration: two callers of one process must
	// not both start committers for one log.
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, errClosed
	}
	if s := db.stores[name]; s != nil {
		return s, nil
	}
	s := &Store{db: db, name: name, schema: schema, quoted: pgx.Identifier{schema}.Sanitize()}
	if err := prepare(s); err != nil {
		return nil, err
	}
	if err := s.refreshPart(ctx, db.pool); err != nil {
		return nil, err
	}
	if err := s.refreshInline(ctx); err != nil {
		return nil, err
	}
	s.startAppender()
	db.stores[name] = s
	return s, nil
}

func (db *Database) registerLog(ctx context.Context, name, schema string) error {
	doing := fmt.Sprintf("register log %s", name)
	_, err := db.pool.Exec(ctx, "insert into "+db.schema+".log (name, schema_name) values ($1, $2) on conflict do nothing", name, schema)
	if err != nil {
		return translate(doing, err)
	}
	var have string
	err = db.pool.QueryRow(ctx, "select schema_name from "+db.schema+".log where name = $1", name).Scan(&have)
	if err != nil {
		return translate(doing, err)
	}
	if have != schema {
		return fmt.Errorf("postgres: %s: it is registered with schema %s, not %s", doing, have, schema)
	}
	return nil
}

// Log is the name of the context and of its log.
func (s *Store) Log() string { return s.name }

// Schema is the name of the context's schema, unquoted.
func (s *Store) Schema() string { return s.schema }

// sql puts the store's schema in the place of {schema}. The texts are the
// constants of this package, so each is made once.
func (s *Store) sql(text string) string {
	if made, ok := s.texts.Load(text); ok {
		return made.(string)
	}
	made := s.inSchema(text)
	s.texts.Store(text, made)
	return made
}

// inSchema is sql for a text that is used once.
func (s *Store) inSchema(text string) string { return strings.ReplaceAll(text, "{schema}", s.quoted) }

func (s *Store) close() { s.appender.close() }
