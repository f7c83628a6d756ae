package redis_test

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

func openDatabase(config postgres.Config) (*postgres.Database, error) {
	return postgres.Open(context.Background(), config)
}

func decodeNote(data []byte) (n noted, err error) {
	err = json.Unmarshal(data, &n)
	return n, err
}

func isNotFound(err error) bool { return errors.Is(err, courante.ErrNotFound) }
