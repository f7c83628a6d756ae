package app

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante/internal/telemetry"
	"github.com/courante-dev/courante/redis"
)

// caching are the settings of what keeps documents near to their readers.
type caching struct {
	Redis             []string `sep:"," placeholder:"URL" env:"COURANTE_REDIS" help:"Redis that keeps documents near to their readers, such as redis://host (${env})."`
	RedisUser         string   `name:"redis-user" placeholder:"NAME" env:"COURANTE_REDIS_USER" help:"Who logs in there, by default who the URL says (${env})."`
	RedisPasswordFile string   `name:"redis-password-file" placeholder:"FILE" env:"COURANTE_REDIS_PASSWORD_FILE" help:"File with the password; it is read again for each connection (${env})."`
}

// open connects to Redis; nil without one.
func (c *caching) open(p *Program, tel *telemetry.Telemetry) (*redis.Client, error) {
	if len(c.Redis) == 0 {
		return nil, nil
	}
	client, err := redis.Open(redis.Config{URLs: c.Redis, Username: c.RedisUser, PasswordFile: c.RedisPasswordFile, Logger: p.Log, Meter: tel.Meter})
	if err != nil {
		return nil, UsageError{fmt.Errorf("%w\nCheck --redis (COURANTE_REDIS); without it, reads go to PostgreSQL", err)}
	}
	p.Step("Redis: keeps documents near to their readers")
	return client, nil
}

// checkCache says whether Redis answers, if there is one.
func (s *system) checkCache(ctx context.Context) error {
	if s.cache == nil {
		return nil
	}
	return s.cache.Check(ctx)
}
