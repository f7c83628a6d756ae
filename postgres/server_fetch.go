//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
)

func (s *Server) fetchedBinaries(_ context.Context, _ ServerConfig, written int) (binaries, error) {
	if written != 0 {
		return binaries{}, wrongMajor(written, "no such installation was found")
	}
	return binaries{}, fmt.Errorf("no PostgreSQL was found: %w", errors.New(installHint()))
}
