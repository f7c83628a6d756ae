package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante/postgres"
)

// upkeep are the settings by which the logs are divided, and what is over goes.
type upkeep struct {
	PartSize byteSize      `default:"32GB" placeholder:"SIZE" env:"COURANTE_PART_SIZE" help:"Size from which on the open part of a log is closed, by default ${default}; 0 for never (${env})."`
	PartAge  time.Duration `default:"720h" env:"COURANTE_PART_AGE" help:"Age at which it is closed, if it has events; 0 for never (${env})."`

	KeepParked time.Duration `default:"2160h" env:"COURANTE_KEEP_PARKED" help:"How long messages that were set aside are kept after they were handled or discarded; 0 for ever (${env})."`
}

// run makes and drops partitions in time, closes and seals the parts of the
// log, and forgets what was set aside and resolved long ago.
func (u upkeep) run(ctx context.Context, s *postgres.Store, now time.Time) error {
	errs := []error{
		s.Maintain(ctx, now),
		s.MaintainParts(ctx, now, postgres.PartPolicy{Size: int64(u.PartSize), Age: u.PartAge}),
	}
	if u.KeepParked > 0 {
		_, err := s.ForgetParked(ctx, now.Add(-u.KeepParked))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (u upkeep) check() error {
	if u.PartAge < 0 {
		return UsageError{fmt.Errorf("--part-age %s: an age cannot be negative; 0 is for never", u.PartAge)}
	}
	if u.KeepParked != 0 && u.KeepParked < time.Hour {
		return UsageError{fmt.Errorf("--keep-parked %s: whoever requeued a message looks for it within the hour; 1h is the least, 0 is for ever", u.KeepParked)}
	}
	return nil
}

// byteSize is a number of bytes as people write it: 512MB, 32GB.
type byteSize int64

var byteUnits = []struct {
	name string
	size int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a size; without a unit it is in bytes.
func (b *byteSize) UnmarshalText(text []byte) error {
	number, size := strings.TrimSpace(string(text)), int64(1)
	for _, u := range byteUnits {
		if n := len(number) - len(u.name); n > 0 && strings.EqualFold(number[n:], u.name) {
			number, size = strings.TrimSpace(number[:n]), u.size
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || n*float64(size) >= 1<<62 {
		return fmt.Errorf("%q is no size; write it like 512MB or 32GB", text)
	}
	*b = byteSize(n * float64(size))
	return nil
}

func (b byteSize) String() string {
	for _, u := range byteUnits {
		if n := float64(b) / float64(u.size); n >= 1 && u.size > 1 {
			return strconv.FormatFloat(n, 'f', decimals(n), 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}

// decimals are as many as make three figures.
func decimals(n float64) int {
	switch {
	case n < 10:
		return 2
	case n < 100:
		return 1
	}
	return 0
}
