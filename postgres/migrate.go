package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations
var migrations embed.FS

// A schema's migrations come from two sources, each with numbers of its own:
// the framework, and the context whose schema it is.
const (
	sourceCourante = "courante"
	sourceContext  = "context"
)

// Migration is one numbered migration of a schema.
type Migration struct {
	Schema  string
	Source  string // "courante", or "context" for the context's own
	Version int
	Name    string
	Applied time.Time // zero: not yet; the next start of the program applies it
}

type migrationFile struct {
	version int
	name    string
	sql     string
}

// migrate applies what the schema lacks of the files, in one transaction, so
// that a schema is never left between two versions. Of two processes that
// start at once the second waits, and finds nothing left to do. A schema that
// is ahead of the files belongs to a newer program that is being rolled out;
// migrations are forward only and must keep the previous program working.
func (db *Database) migrate(ctx context.Context, schema, source string, files fs.FS, values map[string]string) error {
	doing := fmt.Sprintf("migrate schema %s", schema)
	list, err := readMigrations(files)
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", doing, err)
	}
	quoted := pgx.Identifier{schema}.Sanitize()
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// The lock ends with the transaction. Its key is the schema's name, so
		// that migrations of different schemas do not wait for each other.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended($1, 0))", "courante.migrate."+schema); err != nil {
			return err
		}
		if err := createMigrationTable(ctx, tx, schema); err != nil {
			return err
		}
		var done int
		err := tx.QueryRow(ctx, "select coalesce(max(version), 0) from "+quoted+".migration where source = $1", source).Scan(&done)
		if err != nil {
			return err
		}
		for _, file := range list {
			if file.version <= done {
				continue
			}
			sql := strings.ReplaceAll(file.sql, "{schema}", quoted)
			for name, value := range values {
				sql = strings.ReplaceAll(sql, name, value)
			}
			// The simple protocol takes a file of many statements.
			if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return fmt.Errorf("%03d_%s: %w", file.version, file.name, err)
			}
			_, err := tx.Exec(ctx, "insert into "+quoted+".migration (source, version, name) values ($1, $2, $3)",
				source, file.version, file.name)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return translate(doing, err)
}

// createMigrationTable makes the schema and the table in it that remembers
// what was applied; it asks first, because "if not exists" needs the right to
// create even when there is nothing to create.
func createMigrationTable(ctx context.Context, tx pgx.Tx, schema string) error {
	var there bool
	err := tx.QueryRow(ctx, "select exists (select from pg_tables where schemaname = $1 and tablename = 'migration')", schema).Scan(&there)
	if err != nil || there {
		return err
	}
	quoted := pgx.Identifier{schema}.Sanitize()
	_, err = tx.Conn().PgConn().Exec(ctx, `
		create schema if not exists `+quoted+`;
		create table `+quoted+`.migration (
			version int         not null,
			applied timestamptz not null default now(),
			source  text        not null,
			name    text        not null,
			primary key (source, version)
		)`).ReadAll()
	return err
}

// Migrations lists the framework's migrations of every schema and the
// contexts' own that were applied. It changes nothing.
func (db *Database) Migrations(ctx context.Context) ([]Migration, error) {
	logs, err := db.logs(ctx)
	if err != nil {
		return nil, err
	}
	schemas := []string{db.config.Schema}
	for _, schema := range logs {
		schemas = append(schemas, schema)
	}
	slices.Sort(schemas[1:])
	var all []Migration
	for i, schema := range schemas {
		folder := "migrations/store"
		if i == 0 {
			folder = "migrations/database"
		}
		list, err := db.migrationsOf(ctx, schema, subdir(migrations, folder))
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func (db *Database) migrationsOf(ctx context.Context, schema string, files fs.FS) ([]Migration, error) {
	list, err := db.appliedMigrations(ctx, schema)
	if err == nil {
		list, err = withPending(list, schema, sourceCourante, files)
	}
	return list, translate("list the migrations of schema "+schema, err)
}

func (db *Database) appliedMigrations(ctx context.Context, schema string) ([]Migration, error) {
	rows, err := db.pool.Query(ctx, "select $1, source, version, name, applied from "+
		pgx.Identifier{schema}.Sanitize()+".migration order by source desc, version", schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Migration])
}

// withPending adds to the list those of the source's files that were not
// applied.
func withPending(list []Migration, schema, source string, files fs.FS) ([]Migration, error) {
	known, err := readMigrations(files)
	for _, file := range known {
		applied := slices.ContainsFunc(list, func(m Migration) bool {
			return m.Source == source && m.Version == file.version
		})
		if !applied {
			list = append(list, Migration{Schema: schema, Source: source, Version: file.version, Name: file.name})
		}
	}
	return list, err
}

// readMigrations reads files named NNN_what_it_does.sql, in order. The numbers
// begin at 1 and have no gap: two branches that both add number 7 must not be
// merged unseen.
func readMigrations(files fs.FS) ([]migrationFile, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	list := make([]migrationFile, 0, len(names))
	for i, name := range names {
		number, rest, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || rest == "" {
			return nil, fmt.Errorf("migration %s: the name must be like 001_what_it_does.sql", name)
		}
		if version != i+1 {
			return nil, fmt.Errorf("migration %s: expected number %d; numbers begin at 1, without gap or repetition", name, i+1)
		}
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		list = append(list, migrationFile{version, rest, string(sql)})
	}
	return list, nil
}

// subdir is fs.Sub for a folder that is embedded in the program.
func subdir(files fs.FS, folder string) fs.FS {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		panic(err) // the folder's name is a constant of this package
	}
	return sub
}
