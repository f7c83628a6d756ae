package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

const goodLine = "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n"

// TestUnreadableFiles are refused before anything is sent: half an order would
// be an order.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	whole := head + strings.Repeat(goodLine, 1000)
	tests := []struct {
		rule, text string
		says       string
	}{
		{"an empty file", "", "the file is empty"},
		{"nothing but line ends", "\n\n", "the file is empty"},
		{"another header", "Invoice,Code\n" + goodLine, "line 1 is neither the header of an Online Retail file"},
		{"no header", goodLine, "line 1 is neither"},
		{"a header that is one long line", strings.Repeat("x", 3<<20), "a line is longer than 1048576 bytes"},
		{"cut off inside a quote", head + goodLine + "536365,85123A,\"HEA", "line 3: a quote that is not closed"},
		{"a quote that swallows the rest", head + "536365,85123A,\"HEART,6\n" + strings.Repeat(goodLine, 100), "line 2: a quote that is not closed"},
		{"a quote inside a field", head + goodLine + "536365,85123A,12\" LANTERN,6\n", "line 3: a quote"},
		{"a line of 10 MB", head + goodLine + strings.Repeat("x", 10<<20) + "\n" + goodLine, "after line 2: a line is longer than 1048576 bytes"},
		{"a quoted field of 10 MB", head + goodLine + "1,\"" + strings.Repeat("x\n", 5<<20), "after line 2: a line is longer than 1048576 bytes"},
		{"a record of 10 MB", "{}\n{\"at\":\"" + strings.Repeat("x", 10<<20), "after line 1: a line is longer than 1048576 bytes"},
		{"a zstd file cut off", compress(t, "zst", whole)[:60], "is cut off: the compressed data ends too early"},
		{"a gzip file cut off", compress(t, "gz", whole)[:100], "is cut off: the compressed data ends too early"},
		{"a gzip file cut off in its head", compress(t, "gz", whole)[:5], "decompress: "},
		{"a gzip file that was changed", damage(compress(t, "gz", whole), -6), "gzip: invalid checksum"},
		{"a zstd file that was changed", damage(compress(t, "zst", whole), -2), "cannot be read on after line"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			r, err := run(t.Context(), config(written(t, tt.text)), s.client())
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got error %v, want one that says %q", err, tt.says)
			}
			if r != nil || s.calls > 0 {
				t.Errorf("got %d requests and report %v, want nothing sent", s.calls, r)
			}
		})
	}
}

func compress(t *testing.T, how, text string) string {
	t.Helper()
	var out bytes.Buffer
	var err error
	if how == "gz" {
		w := gzip.NewWriter(&out)
		_, err = w.Write([]byte(text))
		w.Close()
	} else {
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&out); err == nil {
			_, err = w.Write([]byte(text))
			w.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// damage changes one byte, counted from the end.
func damage(text string, at int) string {
	b := []byte(text)
	b[len(b)+at] ^= 0xff
	return string(b)
}

// TestDamagedLines are refused, the rest goes on, and the end says it.
func TestDamagedLines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule, text string
		cause      Cause
	}{
		{"a column is missing", "536366,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850\n", damagedColumns},
		{"the file ends inside a line", "536366,85123A,HEA", damagedColumns},
		{"a column too many", "536366,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom,more\n", damagedColumns},
		{"not UTF-8", "536366,85123A,HEART \xff,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n", damagedText},
		{"a NUL", "536366,85123A,HEART\x00,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n", damagedText},
		{"a quantity that is none", "536366,85123A,HEART,six,2010-12-01 08:26:00,2.55,17850,United Kingdom\n", damagedNumber},
		{"a quantity out of this world", "536366,85123A,HEART,99999999999999999999,2010-12-01 08:26:00,2.55,17850,United Kingdom\n", damagedNumber},
		{"a price that is none", "536366,85123A,HEART,6,2010-12-01 08:26:00,2.5e3,17850,United Kingdom\n", damagedNumber},
		{"a time that is none", "536366,85123A,HEART,6,01/12/2010 08:26,2.55,17850,United Kingdom\n", damagedTime},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShop(t)
				r := complete(t, s, config(written(t, head+goodLine+tt.text)))
				want(t, "refused", causesOf(r), map[Cause]int{tt.cause: 1})
				want(t, "accepted", r.Accepted, map[string]int{asOrder: 1})
				if says := "damaged lines: 1, the first is line 3"; !strings.Contains(r.Checks, says) {
					t.Errorf("got checks %q, want %q", r.Checks, says)
				}
			})
		})
	}
}

// TestTheSameFile is one however it is stored: its keys are.
func TestTheSameFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	plain := string(text)
	var hash string
	for _, stored := range []string{plain, compress(t, "gz", plain), compress(t, "zst", plain)} {
		f, err := openFile(written(t, stored), nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := f.scan(0)
		if err != nil {
			t.Fatal(err)
		}
		if o.lines != 32 || hash != "" && o.hash != hash {
			t.Errorf("got %d lines and hash %s, want 32 and %s", o.lines, o.hash, hash)
		}
		hash = o.hash
	}
}

// TestStandardInput is read whole before anything is sent, and leaves nothing.
func TestStandardInput(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	cfg := config("-")
	cfg.Stdin = strings.NewReader("\xef\xbb\xbf" + strings.ReplaceAll(head+goodLine, "\n", "\r\n"))
	r := complete(t, newShop(t), cfg)
	want(t, "accepted", r.Accepted, map[string]int{asOrder: 1})
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("got %v left behind, %v", left, err)
	}
}

// TestChangedFile notices that somebody writes to the file.
func TestChangedFile(t *testing.T) {
	t.Parallel()
	name := written(t, head+goodLine)
	f, err := openFile(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.scan(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(head+strings.Replace(goodLine, "6", "7", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(config(name), o, newShop(t).client())
	ctx, cancel := context.WithCancelCause(t.Context())
	e.stop = cancel
	if err := e.send(ctx, config(name), f, o); !errors.Is(err, errChanged) {
		t.Errorf("got %v, want %v", err, errChanged)
	}
	e.work.Wait()
}
