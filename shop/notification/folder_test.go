package notification

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante/shop"
)

func TestSameKeyIsOneMail(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mails")
	folder, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := Mail{Kind: confirmation, OrderID: "o-1", CustomerID: "1", Total: shop.Money{Amount: 1250, Currency: "GBP"}, Date: time.Now()}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := folder.Send(t.Context(), "notification/mail:o-1@1/mail", m); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := folder.Send(t.Context(), "another key", m); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Errorf("two keys gave %d files: %v", len(files), files)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".eml") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
}

func TestMessageIsAMail(t *testing.T) {
	t.Parallel()
	m := Mail{
		Kind: cancellation, OrderID: "o-1", CustomerID: "a:b.c", Total: shop.Money{Amount: 1250, Currency: "GBP"},
		Refunded: shop.Money{Amount: 1250, Currency: "GBP"}, Date: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Reason: "ärger\r\nBcc: everybody@example.com\n.\n" + strings.Repeat("long ", 100),
	}
	data := m.Message("x")
	for _, line := range bytes.Split(data, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("line of %d bytes: %.80q", len(line), line)
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Bcc") != "" {
		t.Error("the reason became a header")
	}
	to, err := msg.Header.AddressList("To")
	if err != nil || len(to) != 1 || to[0].Address != "a:b.c@shop.invalid" {
		t.Errorf("To: %v, %v", to, err)
	}
	if _, err := msg.Header.Date(); err != nil {
		t.Error(err)
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil || subject != "Your order o-1 is cancelled" {
		t.Errorf("Subject: %q, %v", subject, err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil || !strings.Contains(string(body), "ärger") || !strings.Contains(string(body), "given back 12.50 GBP") {
		t.Errorf("body: %s, %v", body, err)
	}
}
