package postgres

import "context"

type appender struct{}

func (s *Store) start(ctx context.Context) error { return nil }
func (s *Store) close()                          {}
