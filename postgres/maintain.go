package postgres

import (
	"context"
	"time"
)

func (s *Store) Maintain(ctx context.Context, now time.Time) error { return nil }
