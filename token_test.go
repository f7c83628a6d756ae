package courante_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
)

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []courante.Token{
		{},
		{Log: "ordering", Epoch: 1, Xid: 4711},
		{Log: "a.b", Epoch: math.MaxInt32, Xid: math.MaxUint64},
		{Log: "ordering", Epoch: -1},
	} {
		got, err := courante.ParseToken(want.String())
		if err != nil || got != want {
			t.Errorf("ParseToken(%q) = %+v, %v, want %+v", want.String(), got, err, want)
		}
	}
	body, err := json.Marshal(struct {
		Token courante.Token `json:"token"`
	}{courante.Token{Log: "ordering", Epoch: 1, Xid: 4711}})
	if err != nil || strings.Contains(string(body), "ordering") || !strings.Contains(string(body), `"token":"`) {
		t.Errorf("in JSON a token is one opaque string, got %s, %v", body, err)
	}
}

func TestTokenRefusesGarbage(t *testing.T) {
	t.Parallel()
	good := courante.Token{Log: "ordering", Epoch: 1, Xid: 4711}.String()
	for _, text := range []string{
		"x", "ordering.1.4711", good[1:], good[:len(good)-1], good + "A", good + "=", " " + good, strings.Repeat("A", 10_000),
		strings.Replace(good, good[3:4], "_", 1), "\x00", "é",
	} {
		if got, err := courante.ParseToken(text); !errors.Is(err, courante.ErrBadToken) {
			t.Errorf("ParseToken(%.40q) = %+v, %v, want ErrBadToken", text, got, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("")
	f.Add(courante.Token{Log: "ordering", Epoch: 1, Xid: 4711}.String())
	f.Add("b3JkZXJpbmcuMS4w")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := courante.ParseToken(text)
		switch {
		case err != nil && !errors.Is(err, courante.ErrBadToken):
			t.Fatalf("ParseToken(%q): %v, want ErrBadToken", text, err)
		case err == nil && token.String() != text:
			t.Fatalf("ParseToken(%q) = %+v, which is written %q", text, token, token.String())
		}
	})
}
