package ordering

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// ListedOrder is an order in a list.
type ListedOrder struct {
	OrderID    string     `json:"order_id"`
	CustomerID string     `json:"customer_id"`
	Status     string     `json:"status" enum:"created,reserved,paid,shipped,confirmed,cancelling,cancelled,returned"`
	Version    int64      `json:"version"`
	Currency   string     `json:"currency"`
	Total      shop.Money `json:"total"`
	Lines      int        `json:"lines" doc:"How many lines it has"`
	CreatedAt  time.Time  `json:"created_at"`
}

// ListQuery asks for a page of orders. Empty fields do not filter.
type ListQuery struct {
	CustomerID string
	Status     string
	Limit      int    // orders a page
	Cursor     string // of the page before, "" for the first page
}

// ErrBadCursor says that a cursor was not given by this list, or by a list
// with other filters.
var ErrBadCursor = errors.New("the cursor is of no page of this list; begin without one")

// List reads a page of orders, newest first, and the cursor of the next page,
// "" if there is none. It follows the orders at a distance. An order has its place in the list for ever, so who
// reads on sees each order once, whatever comes in meanwhile; an order that
// enters or leaves a status while its pages are read may be in none of them.
func (c *Context) List(ctx context.Context, q ListQuery) (page []ListedOrder, next string, err error) {
	sql, args, err := q.sql()
	if err != nil {
		return nil, "", err
	}
	page, err = courante.Select(ctx, c.svc, scanListed, sql, args...)
	if err != nil || len(page) <= q.Limit {
		return page, "", err
	}
	page = page[:q.Limit]
	last := &page[len(page)-1]
	return page, q.cursor(place{last.CreatedAt, last.OrderID}), nil
}

// sql is the query for one order more than the page has, which tells whether
// there is a next page. Each combination of filters and cursor is a text of
// its own, so that each is a scan of one index that stops at the limit: see
// 001_order_list.sql.
func (q *ListQuery) sql() (text string, args []any, err error) {
	var where []string
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	if q.CustomerID != "" {
		where = append(where, "customer_id = "+arg(q.CustomerID))
	}
	if q.Status != "" {
		where = append(where, "status = "+arg(q.Status))
	}
	if q.Cursor != "" {
		after, err := q.place()
		if err != nil {
			return "", nil, err
		}
		where = append(where, "(created_at, order_id) < ("+arg(after.at)+", "+arg(after.id)+")")
	}
	text = "select order_id, customer_id, status, version, currency, total, lines, created_at from {schema}.order_list"
	if len(where) > 0 {
		text += " where " + strings.Join(where, " and ")
	}
	return text + " order by created_at desc, order_id desc limit " + arg(q.Limit+1), args, nil
}

func scanListed(row pgx.CollectableRow) (o ListedOrder, err error) {
	err = row.Scan(&o.OrderID, &o.CustomerID, &o.Status, &o.Version, &o.Currency, &o.Total.Amount, &o.Lines, &o.CreatedAt)
	o.Total.Currency, o.CreatedAt = o.Currency, o.CreatedAt.UTC()
	return o, err
}

// place is where a page ended.
type place struct {
	at time.Time
	id string
}

// cursor writes a place for callers: a hash, the time, and the id. The hash
// tells a cursor of other filters, and one that was made up or cut off.
func (q *ListQuery) cursor(p place) string {
	b := make([]byte, 4, 12+len(p.id))
	b = binary.BigEndian.AppendUint64(b, uint64(p.at.UnixMicro()))
	b = append(b, p.id...)
	binary.BigEndian.PutUint32(b, q.hash(b[4:]))
	return base64.RawURLEncoding.EncodeToString(b)
}

// place reads the query's cursor.
func (q *ListQuery) place() (place, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(q.Cursor)
	if err != nil || len(b) < 13 || binary.BigEndian.Uint32(b) != q.hash(b[4:]) {
		return place{}, ErrBadCursor
	}
	p := place{time.UnixMicro(int64(binary.BigEndian.Uint64(b[4:]))), string(b[12:])}
	if year := p.at.UTC().Year(); year < 1 || year > 9999 || shop.CheckID(p.id) != nil {
		return place{}, ErrBadCursor // somebody took the pains to make the hash right
	}
	return p, nil
}

func (q *ListQuery) hash(place []byte) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", q.CustomerID, q.Status, place)
	return h.Sum32()
}
