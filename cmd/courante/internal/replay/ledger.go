package replay

import (
	"strings"
	"sync"
)

// ledger knows what customers have bought and not yet returned, by the orders
// that the system accepted. A cancel invoice does not name its order: what it
// returns is matched here, newest first. How an order ended does not count
// here, so that a second run, which sees other ends, matches the same.
type ledger struct {
	mu     sync.Mutex // guards bought and names
	bought map[purchase][]lot
	names  map[string]string // one copy of each text that is kept
}

type purchase struct{ customer, sku string }

// lot is an order's line, and how much of it may still be returned.
type lot struct {
	order *watch
	line  int32
	left  int32 // at most shop.MaxQuantity
}

// part is a piece of a return: so much of that line of that order.
type part struct {
	order    *watch
	line     int
	quantity int64
}

func newLedger() *ledger {
	return &ledger{bought: map[purchase][]lot{}, names: map[string]string{}}
}

// buy enters an accepted order's goods.
func (l *ledger) buy(customer string, o *watch, lines []orderLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	customer = l.name(customer)
	for i, line := range lines {
		if line.Kind == goodsKind {
			p := purchase{customer, l.name(line.SKU)}
			l.bought[p] = append(l.bought[p], lot{o, int32(i + 1), int32(line.Quantity)})
		}
	}
}

// giveBack takes quantity pieces from the customer's purchases of the SKU,
// newest first. known is whether there were any purchases at all; the parts may
// be less than asked for.
func (l *ledger) giveBack(customer, sku string, quantity int64) (parts []part, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lots := l.bought[purchase{customer, sku}]
	for i := len(lots) - 1; i >= 0 && quantity > 0; i-- {
		n := min(int64(lots[i].left), quantity)
		if n == 0 {
			continue
		}
		lots[i].left -= int32(n)
		quantity -= n
		parts = append(parts, part{lots[i].order, int(lots[i].line), n})
	}
	return parts, len(lots) > 0
}

// name keeps a text without the line of the file that it was cut out of.
func (l *ledger) name(text string) string {
	kept, ok := l.names[text]
	if !ok {
		kept = strings.Clone(text)
		l.names[kept] = kept
	}
	return kept
}
