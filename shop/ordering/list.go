package ordering

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations are those of the context's own tables.
func migrations() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the folder's name is a constant of this package
	}
	return files
}

// listName is the projection's name, and its table's.
const listName = "order_list"

// orderList is the projection of the list: the table order_list, a row for each
// order. It follows the orders at a distance: what an order goes through in a
// moment is one change of its row then, and of the row's entries in four indexes.
func orderList() courante.Projection {
	return courante.Projection{
		Name: listName, Version: 1, Async: true, Tables: []string{"order_list"},
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			rows, err := listChanges(events)
			if err == nil {
				rows.queue(b)
			}
			return err
		},
	}
}

// listRow is what events change of an order's row.
type listRow struct {
	id       string
	version  int64
	status   string      // the furthest that they bring it
	created  *listFields // nil if it was there before them
	happened order       // what the status is found by
}

// listFields are what does not change after an order's creation.
type listFields struct {
	CustomerID string     `json:"customer_id"`
	Total      shop.Money `json:"total"`
	Lines      []struct{} `json:"lines"` // only their number counts
	at         time.Time
}

// EventType is that of the one event that it is read from.
func (listFields) EventType() string { return shop.OrderCreated{}.EventType() }

// listRows are the rows that events change, in the order of their ids.
type listRows []listRow

// listChanges folds events, those of one order in their order, into one change
// of each order's row.
func listChanges(events []courante.Event) (listRows, error) {
	byID := map[string]*listRow{}
	for i := range events {
		e := &events[i]
		id, ok := strings.CutPrefix(e.Stream, orderCategory+":")
		if !ok {
			continue
		}
		row := byID[id]
		if row == nil {
			row = &listRow{id: id}
			byID[id] = row
		}
		row.version = e.Version
		row.happened.Past.Add(e.Type)
		if e.Type == (listFields{}).EventType() {
			created, err := courante.Decode[listFields](e)
			if err != nil {
				return nil, fmt.Errorf("list order %s: %w", id, err)
			}
			created.at = e.Time
			row.created = &created
		}
	}
	rows := make(listRows, 0, len(byID))
	for _, row := range byID {
		row.status = row.happened.status()
		rows = append(rows, *row)
	}
	slices.SortFunc(rows, func(a, b listRow) int { return strings.Compare(a.id, b.id) })
	return rows, nil
}

// statuses are all that an order can have, the furthest last.
func statuses() []string {
	list := make([]string, len(ranks))
	for i, r := range ranks {
		list[len(ranks)-1-i] = r.status
	}
	return list
}

const (
	insertListed = `
	insert into {schema}.order_list (version, total, created_at, lines, order_id, customer_id, status, currency)
	select * from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[])`

	// An order that is not in the list cannot change: then the table does not
	// belong to this log, and nothing is to be written on it.
	updateListed = `
	with w as (
		update {schema}.order_list l
		set version = a.version,
		    status = case when array_position($4::text[], a.status) > array_position($4::text[], l.status) then a.status else l.status end
		from unnest($1::text[], $2::bigint[], $3::text[]) a(order_id, version, status)
		where l.order_id = a.order_id
		returning 1
	) select {schema}.expect('order_list', count(*), $5::bigint) from w`
)

// queue adds the statements, at most two, that make the changes.
func (rows listRows) queue(b *pgx.Batch) {
	var added struct {
		versions, totals         []int64
		times                    []time.Time
		lines                    []int32
		ids, customers, statuses []string
		currencies               []string
	}
	var changed struct {
		ids, statuses []string
		versions      []int64
	}
	for _, r := range rows {
		if r.created == nil {
			changed.ids = append(changed.ids, r.id)
			changed.versions = append(changed.versions, r.version)
			changed.statuses = append(changed.statuses, r.status)
			continue
		}
		added.versions = append(added.versions, r.version)
		added.totals = append(added.totals, r.created.Total.Amount)
		added.times = append(added.times, r.created.at)
		added.lines = append(added.lines, int32(len(r.created.Lines)))
		added.ids = append(added.ids, r.id)
		added.customers = append(added.customers, r.created.CustomerID)
		added.statuses = append(added.statuses, r.status)
		added.currencies = append(added.currencies, r.created.Total.Currency)
	}
	if len(added.ids) > 0 {
		b.Queue(insertListed, added.versions, added.totals, added.times, added.lines,
			added.ids, added.customers, added.statuses, added.currencies)
	}
	if len(changed.ids) > 0 {
		b.Queue(updateListed, changed.ids, changed.versions, changed.statuses, statuses(), len(changed.ids))
	}
}
