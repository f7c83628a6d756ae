package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Inspect lists the migrations of the ticker's schema and of the logs', as
// [Database.Migrations] does, without opening the database: it changes nothing,
// not even in one that has never been used. logs are those that the program
// will have, each with the migrations of its context's own, nil for none; logs
// that are registered are added.
func Inspect(ctx context.Context, config Config, logs map[string]fs.FS) ([]Migration, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	poolConfig, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: the URL cannot be read: %w", err) // pgconn hides the password
	}
	config.setSession(poolConfig.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, translate("connect", err)
	}
	defer pool.Close()
	db := &Database{config: config, schema: pgx.Identifier{config.Schema}.Sanitize(), pool: pool}
	all, registered, err := db.inspectTicker(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]fs.FS{}
	for log, files := range logs {
		if registered[log] == "" {
			registered[log] = config.schemaOf(log)
		}
		own[registered[log]] = files
	}
	for _, schema := range slices.Sorted(maps.Values(registered)) {
		list, err := db.inspectSchema(ctx, schema, "migrations/store", own[schema])
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// inspectTicker returns the migrations of the ticker's schema, and the schema
// of each registered log.
func (db *Database) inspectTicker(ctx context.Context) ([]Migration, map[string]string, error) {
	list, err := db.inspectSchema(ctx, db.config.Schema, "migrations/database", nil)
	if err != nil {
		return nil, nil, err
	}
	if there, err := db.hasTable(ctx, db.config.Schema, "log"); err != nil || !there {
		return list, map[string]string{}, err
	}
	logs, err := db.logs(ctx)
	return list, logs, err
}

// inspectSchema lists the migrations of a schema that may not be there yet: the
// framework's in the folder, and the context's own.
func (db *Database) inspectSchema(ctx context.Context, schema, folder string, own fs.FS) ([]Migration, error) {
	there, err := db.hasTable(ctx, schema, "migration")
	if err != nil {
		return nil, err
	}
	var list []Migration
	if there {
		if list, err = db.appliedMigrations(ctx, schema); err != nil {
			return nil, err
		}
	}
	if list, err = withPending(list, schema, sourceCourante, subdir(migrations, folder)); err == nil && own != nil {
		list, err = withPending(list, schema, sourceContext, own)
	}
	slices.SortStableFunc(list, func(a, b Migration) int {
		return cmp.Or(-cmp.Compare(a.Source, b.Source), cmp.Compare(a.Version, b.Version))
	})
	return list, translate("list the migrations of schema "+schema, err)
}

func (db *Database) hasTable(ctx context.Context, schema, table string) (bool, error) {
	var there bool
	err := db.pool.QueryRow(ctx, "select exists (select from pg_tables where schemaname = $1 and tablename = $2)", schema, table).Scan(&there)
	return there, translate("look for "+schema+"."+table, err)
}

// ErrUnprepared says that a database that was only to be looked at has not been
// brought to the version of this program.
var ErrUnprepared = errors.New("not prepared")

// checkMigrated wants a schema that has all of the framework's migrations. One
// that has more belongs to a newer program and still does for this one.
func (db *Database) checkMigrated(ctx context.Context, schema, folder string) error {
	list, err := db.inspectSchema(ctx, schema, folder, nil)
	if err != nil {
		return err
	}
	var missing []string
	for _, m := range list {
		if m.Applied.IsZero() {
			missing = append(missing, fmt.Sprintf("%03d_%s", m.Version, m.Name))
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case len(list):
		return fmt.Errorf("postgres: %w: no program was ever started on this database, it has no schema %s; is it the right one?", ErrUnprepared, schema)
	}
	return fmt.Errorf("postgres: %w: schema %s is older than this program, it lacks %s; start the new version of what runs on it, or: courante migrate",
		ErrUnprepared, schema, strings.Join(missing, ", "))
}
