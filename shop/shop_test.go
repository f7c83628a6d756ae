package shop_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/courante-dev/courante/shop"
)

func TestMoneyForPeople(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		money shop.Money
		want  string
	}{
		{shop.Money{Amount: 1250, Currency: "GBP"}, "12.50 GBP"},
		{shop.Money{Amount: 5, Currency: "EUR"}, "0.05 EUR"},
		{shop.Money{Amount: -5, Currency: "EUR"}, "-0.05 EUR"},
		{shop.Money{Amount: 300, Currency: "JPY"}, "300 JPY"},
		{shop.Money{Amount: 1234, Currency: "KWD"}, "1.234 KWD"},
		{shop.Money{Amount: -1 << 63, Currency: "GBP"}, "-92233720368547758.08 GBP"},
	} {
		if got := tt.money.String(); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.money, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"id", shop.CheckID, []string{"a", "0", "17850", "o-1:x_y.z"[:3], "A.b:c_d-e", strings.Repeat("a", 64)}, []string{"", "-a", ".a", "a b", "ä", "a/b", "a\x00", strings.Repeat("a", 65)}},
		{"SKU", shop.CheckSKU, []string{"85123A", "a b", "a/b", "ä", "�", strings.Repeat("ä", 32)}, []string{"", "a\n", "a\x00", "\xff", "\u0085", strings.Repeat("ä", 33)}},
		{"currency", shop.CheckCurrency, []string{"GBP", "EUR", "JPY", "AED", "ZWL"}, []string{"", "gbp", "XYZ", "GB", "GBPX", "P G", " GB", "XXX", "XAU"}},
		{"country", shop.CheckCountry, []string{"GB", "DE", "ZZ", "XS", "AD"}, []string{"", "gb", "QQ", "G", "GBR", " G", "UK"}},
	} {
		for _, s := range tt.good {
			if err := tt.check(s); err != nil {
				t.Errorf("%s %q: %v", tt.name, s, err)
			}
		}
		for _, s := range tt.bad {
			if tt.check(s) == nil {
				t.Errorf("%s %q was accepted", tt.name, s)
			}
		}
	}
}

func FuzzIDs(f *testing.F) {
	f.Add("17850")
	f.Add("GB")
	f.Add("ä\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if shop.CheckID(s) == nil && (len(s) > 64 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") != "") {
			t.Errorf("id %q was accepted", s)
		}
		if shop.CheckSKU(s) == nil && (len(s) < 1 || len(s) > 64 || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n\r\t\x7f")) {
			t.Errorf("SKU %q was accepted", s)
		}
		if shop.CheckCurrency(s) == nil && (len(s) != 3 || strings.ToUpper(s) != s) {
			t.Errorf("currency %q was accepted", s)
		}
		if shop.CheckCountry(s) == nil && (len(s) != 2 || strings.ToUpper(s) != s) {
			t.Errorf("country %q was accepted", s)
		}
	})
}
