package notification

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"github.com/courante-dev/courante/shop"
)

// Mail is one mail, as data: what it says, not how it looks.
type Mail struct {
	Kind       string     `json:"kind"`
	OrderID    string     `json:"order_id"`
	ReturnID   string     `json:"return_id,omitempty"` // if it is about a return
	CustomerID string     `json:"customer_id"`
	Total      shop.Money `json:"total"`
	Tracking   string     `json:"tracking,omitempty"`
	Refunded   shop.Money `json:"refunded"`
	Reason     string     `json:"reason,omitempty"`
	Date       time.Time  `json:"date"` // when it was asked for, so that the same mail has the same bytes
}

// domain is where customers and the shop have their addresses. RFC 2606
// reserves it, so that no mail of a trial reaches anybody.
const domain = "shop.invalid"

// Message writes the mail as RFC 5322 and MIME want it. id is unique to the
// mail.
func (m Mail) Message(id string) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("From", (&mail.Address{Name: "The shop", Address: "orders@" + domain}).String())
	header("To", (&mail.Address{Address: m.CustomerID + "@" + domain}).String())
	header("Subject", mime.QEncoding.Encode("utf-8", m.subject()))
	header("Date", m.Date.UTC().Format(time.RFC1123Z))
	header("Message-ID", "<"+id+"@"+domain+">")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(m.text(), "\n", "\r\n"))) // into memory: cannot fail
	_ = w.Close()
	return b.Bytes()
}

func (m Mail) subject() string {
	switch m.Kind {
	case confirmation:
		return "Your order " + m.OrderID + " is on its way"
	case refund:
		return "Your return of order " + m.OrderID + " is complete"
	default:
		return "Your order " + m.OrderID + " is cancelled"
	}
}

func (m Mail) text() string {
	var b strings.Builder
	b.WriteString("Hello,\n\n")
	switch m.Kind {
	case confirmation:
		fmt.Fprintf(&b, "your order %s over %s is confirmed.\n", m.OrderID, m.Total)
		if m.Tracking != "" {
			fmt.Fprintf(&b, "You can follow it under the tracking number %s.\n", m.Tracking)
		}
	case refund:
		fmt.Fprintf(&b, "we have what you returned of your order %s.\n", m.OrderID)
		if m.Refunded.Amount > 0 {
			fmt.Fprintf(&b, "We have given back %s.\n", m.Refunded)
		} else {
			b.WriteString("It cost nothing, so there is nothing to give back.\n")
		}
	default:
		fmt.Fprintf(&b, "your order %s over %s is cancelled (%s).\n", m.OrderID, m.Total, m.Reason)
		if m.Refunded.Amount > 0 {
			fmt.Fprintf(&b, "We have given back %s.\n", m.Refunded)
		} else {
			b.WriteString("Nothing was charged.\n")
		}
	}
	b.WriteString("\nThe shop\n")
	return b.String()
}
