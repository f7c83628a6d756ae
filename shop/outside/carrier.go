package outside

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Carrier plays a carrier.
type Carrier struct {
	ledger Ledger
	cfg    Config
}

// NewCarrier opens the carrier's books in the ledger.
func NewCarrier(l Ledger, cfg Config) *Carrier {
	return &Carrier{ledger: l, cfg: cfg.withDefaults()}
}

// Booking is what the carrier's books say about one key.
type Booking struct {
	Key       string `json:"-"`
	Country   string `json:"country,omitempty"`
	Tracking  string `json:"tracking,omitempty"` // "" if it was refused
	Refused   string `json:"refused,omitempty"`  // why
	Cancelled bool   `json:"cancelled,omitempty"`
}

// bookingBook is where bookings are in a ledger.
const bookingBook = "bookings"

// Book books a transport, once for each key. It answers with a tracking number
// or says why it refuses. The country chooses what happens: nobody goes to ZZ,
// from XS no answer ever comes and nothing is booked, to all others it ships.
func (c *Carrier) Book(ctx context.Context, key, country, _ string) (tracking, refused string, err error) {
	if country == "XS" {
		if err := c.cfg.Wait(ctx, forever); err != nil {
			return "", "", err
		}
		return "", "", errNoReply
	}
	var b Booking
	err = c.update(ctx, key, func(known Booking) Booking {
		if b = known; b == (Booking{}) {
			b.Country = country
			if country == "ZZ" {
				b.Refused = "no carrier serves ZZ"
			} else {
				b.Tracking = trackingNumber(key)
			}
		}
		return b
	})
	tracking, refused = b.answer()
	return tracking, refused, err
}

func (b Booking) answer() (tracking, refused string) {
	if b.Cancelled {
		return "", "cancelled"
	}
	return b.Tracking, b.Refused
}

// Lookup says what became of a booking; found is false if the carrier has
// never heard of it.
func (c *Carrier) Lookup(ctx context.Context, key string) (tracking, refused string, found bool, err error) {
	var b Booking
	err = c.update(ctx, key, func(known Booking) Booking {
		b = known
		return b
	})
	tracking, refused = b.answer()
	return tracking, refused, b != (Booking{}), err
}

// Cancel undoes a booking. A booking that comes after it is refused.
// Cancelling again changes nothing.
func (c *Carrier) Cancel(ctx context.Context, key string) error {
	return c.update(ctx, key, func(b Booking) Booking {
		b.Cancelled = true
		return b
	})
}

// Bookings returns the carrier's books, by key: what an auditor compares with
// ours.
func (c *Carrier) Bookings(ctx context.Context) (map[string]Booking, error) {
	rows, err := c.ledger.all(ctx, bookingBook)
	if err != nil {
		return nil, err
	}
	bookings := make(map[string]Booking, len(rows))
	for key, row := range rows {
		var b Booking
		if err := json.Unmarshal(row, &b); err != nil {
			return nil, fmt.Errorf("decode booking %s: %w", key, err)
		}
		b.Key = key
		bookings[key] = b
	}
	return bookings, nil
}

func (c *Carrier) update(ctx context.Context, key string, change func(Booking) Booking) error {
	return update(ctx, c.ledger, bookingBook, key, change)
}

// trackingNumber is made from the key, so that it is the same on every machine.
func trackingNumber(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "CR" + strings.ToUpper(hex.EncodeToString(sum[:6]))
}
