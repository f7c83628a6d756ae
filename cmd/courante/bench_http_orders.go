package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/courante-dev/courante/postgres"
)

const (
	benchSKUs = 4000 // as many as a mid-sized shop has; a few of them are in most orders

	// benchTemplates is how many different orders there are, but for the id.
	benchTemplates = 512
)

// orders are the orders that a bench sends. Their ids are numbered, so that
// afterwards every single one can be looked for.
type orders struct {
	run       string
	templates [][]byte // requests with a placeholder for the id
	places    []int    // of the placeholder

	mu       sync.Mutex // guards what follows
	sent     int
	accepted []int  // numbers
	unknown  []int  // numbers of those whose answer says that it may be there or not
	token    string // of the last accepted
}

const idLength = len("bench-12345678-000000000")

func (o *orders) id(number int) string { return fmt.Sprintf("bench-%s-%09d", o.run, number) }

func newOrders(lines int) *orders {
	o := &orders{run: strings.ToLower(rand.Text()[:8])}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	popular := mathrand.NewZipf(random, 1.1, 1, benchSKUs-1)
	placeholder := strings.Repeat("x", idLength)
	for range benchTemplates {
		var list []string
		for range lines {
			list = append(list, fmt.Sprintf(`{"sku":%q,"description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":%d,"unit_price":%d}`,
				benchSKU(int(popular.Uint64())), 1+random.IntN(12), 50+random.IntN(1000)))
		}
		body := fmt.Sprintf(`{"order_id":%q,"customer_id":"%d","currency":"GBP","lines":[%s],`+
			`"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB","city":"London","postal_code":"SW1A 1AA","address":"10 Example Street"}}`,
			placeholder, 10000+random.IntN(9000), strings.Join(list, ","))
		request := []byte(fmt.Sprintf("POST /v1/orders HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		o.templates = append(o.templates, request)
		o.places = append(o.places, bytes.Index(request, []byte(placeholder)))
	}
	return o
}

func benchSKU(i int) string { return fmt.Sprintf("bench-%04d", i) }

// posts is the load that places orders.
func (o *orders) posts(address string, conns int) *load {
	underWay := make([]int, conns)
	return &load{address: address, conns: conns,
		prepare: func(conn int, buffer []byte) []byte {
			o.mu.Lock()
			number := o.sent
			o.sent++
			o.mu.Unlock()
			underWay[conn] = number
			t := number % benchTemplates
			buffer = append(buffer[:0], o.templates[t]...)
			copy(buffer[o.places[t]:], o.id(number))
			return buffer
		},
		check: func(conn int, a loadAnswer) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			switch a.status {
			case http.StatusCreated:
				o.accepted, o.token = append(o.accepted, underWay[conn]), string(a.token)
			case http.StatusServiceUnavailable: // overload; most were not taken, but the answer does not promise it
				o.unknown = append(o.unknown, underWay[conn])
			default:
				return fmt.Errorf("POST /v1/orders: %d %s", a.status, a.body)
			}
			return nil
		}}
}

// freshEvery is how many reads there are for one that reads its own write.
const freshEvery = 10

// gets is the load that reads orders: any of those accepted, and now and then
// the last one, with its token.
func (o *orders) gets(address string, conns int) *load {
	asked := make([]string, conns)
	turn := make([]int, conns)
	return &load{address: address, conns: conns,
		prepare: func(conn int, buffer []byte) []byte {
			turn[conn]++
			token := ""
			o.mu.Lock()
			number := o.accepted[mathrand.IntN(len(o.accepted))]
			if turn[conn]%freshEvery == 0 {
				number, token = o.accepted[len(o.accepted)-1], o.token
			}
			o.mu.Unlock()
			asked[conn] = o.id(number)
			buffer = append(append(buffer[:0], "GET /v1/orders/"...), asked[conn]...)
			buffer = append(buffer, " HTTP/1.1\r\nHost: bench\r\n"...)
			if token != "" {
				buffer = append(append(append(buffer, "Courante-Token: "...), token...), "\r\n"...)
			}
			return append(buffer, "\r\n"...)
		},
		check: func(conn int, a loadAnswer) error {
			if a.status == http.StatusOK && bytes.Contains(a.body, []byte(asked[conn])) || a.status == http.StatusServiceUnavailable {
				return nil
			}
			return fmt.Errorf("GET /v1/orders/%s: %d %s", asked[conn], a.status, a.body)
		}}
}

// stock makes sure that no order fails for want of goods.
func stock(ctx context.Context, address string) error {
	const body = `{"quantity":1000000}`
	var mu sync.Mutex
	next := 0
	ctx, done := context.WithCancel(ctx)
	defer done()
	receipts := &load{address: address, conns: 64,
		prepare: func(_ int, buffer []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			sku := benchSKU(min(next, benchSKUs-1))
			if next++; next >= benchSKUs {
				done()
			}
			return fmt.Appendf(buffer[:0], "POST /v1/inventory/%s/receipts HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", sku, len(body), body)
		},
		check: func(_ int, a loadAnswer) error {
			if a.status != http.StatusCreated {
				return fmt.Errorf("receive stock: %d %s", a.status, a.body)
			}
			return nil
		}}
	m, err := receipts.closed(ctx)
	if err == nil && m.Wrong != "" {
		err = fmt.Errorf("%s", m.Wrong)
	}
	return err
}

// checkLog wants every accepted order in the log, once, and none that nobody
// sent. It looks at the table itself, not at what answered the requests.
func (o *orders) checkLog(ctx context.Context, db *postgres.Database) (string, error) {
	rows, err := db.Pool().Query(ctx, `select stream from ordering.event where starts_with(stream, $1) and version = 1`, "order:bench-"+o.run)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		there[string(rows.RawValues()[0])] = true
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	lost := 0
	for _, number := range o.accepted {
		if !there["order:"+o.id(number)] {
			lost++
		}
		delete(there, "order:"+o.id(number))
	}
	for _, number := range o.unknown {
		delete(there, "order:"+o.id(number))
	}
	switch {
	case lost > 0:
		return fmt.Sprintf("%d accepted orders are not in the log", lost), nil
	case len(there) > 0:
		return fmt.Sprintf("the log holds %d orders that were not accepted", len(there)), nil
	}
	return "ok", nil
}

// sample is the answer to one request of a load, for a server that answers the same.
func sample(ctx context.Context, l *load) ([]byte, error) {
	c, err := dialLoad(ctx, l.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	a, err := c.do(l.prepare(0, nil))
	if err == nil {
		err = l.check(0, a)
	}
	return bytes.Clone(a.body), err
}
