package app

import (
	"testing"
	"time"
)

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0 B", "999": "999 B", "1kB": "1.00 kB", "1.5 MB": "1.50 MB", "32GB": "32.0 GB", "512gb": "512 GB", "2TB": "2.00 TB", "7B": "7 B",
	} {
		var b byteSize
		if err := b.UnmarshalText([]byte(text)); err != nil || b.String() != want {
			t.Errorf("%q is %s, %v; want %s", text, b, err, want)
		}
	}
	for _, text := range []string{"", "GB", "-1", "1 EB", "many", "1e30TB"} {
		var b byteSize
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %s, want an error", text, b)
		}
	}
}

func TestParseMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-03-01T00:00:00Z":      time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-03-01T00:00:00+02:00": time.Date(2026, 2, 28, 22, 0, 0, 0, time.UTC),
		"36h":                       now.Add(-36 * time.Hour),
		"30d":                       now.AddDate(0, 0, -30),
	} {
		if got, err := parseMoment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-1h", "-3d", "2027-01-01T00:00:00Z", "d"} {
		if got, err := parseMoment(text, now); err == nil {
			t.Errorf("%q is %s, want an error", text, got)
		}
	}
}
