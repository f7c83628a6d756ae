package redis

import (
	"context"
	"time"

	"github.com/courante-dev/courante"
	"github.com/redis/rueidis"
)

// Get returns a document; see [courante.Cache].
func (c *Client) Get(ctx context.Context, collection, id string, load courante.LoadDocument) (courante.Document, error) {
	of := c.metrics.collection(collection)
	now := time.Now()
	use := c.leave(collection).usable(now)
	if use == nil || c.open() {
		of.source.Add(ctx, 1)
		return c.load(ctx, "", collection+" "+id, load)
	}
	key := documentKey(use.keys, id)
	found, local, err := c.look(ctx, key, id)
	switch {
	case err == nil:
		if local {
			of.l1.Add(ctx, 1)
		} else {
			c.failures.Store(0)
			of.l2.Add(ctx, 1)
		}
		if found.due(now) {
			of.refreshed.Add(ctx, 1)
			c.refreshSoon(key, load)
		}
		return found.Document, nil
	case rueidis.IsRedisNil(err):
		c.failures.Store(0)
		of.missed.Add(ctx, 1)
	case ctx.Err() != nil:
		return courante.Document{}, ctx.Err()
	default:
		c.failed(err)
		of.failed.Add(ctx, 1)
		key = "" // what is loaded need not be kept
	}
	return c.load(ctx, key, collection+" "+id, load)
}

// look looks for the document in the process, and then in Redis. What is in the
// process is there until Redis says that it changed, or the connection ends.
func (c *Client) look(ctx context.Context, key, id string) (s stored, local bool, err error) {
	conn, err := c.connection()
	if err != nil {
		return s, false, err
	}
	limited, cancel := context.WithTimeout(ctx, c.config.ReadTimeout)
	defer cancel()
	res := conn.DoCache(limited, conn.B().Get().Key(key).Cache(), 2*c.config.Refresh)
	b, err := res.AsBytes()
	if err != nil {
		return s, false, err
	}
	s, err = decode(id, b)
	return s, res.IsCacheHit(), err
}

// load makes the document, once for all who want it at this time, and keeps it
// under the key, if there is one.
func (c *Client) load(ctx context.Context, key, flight string, load courante.LoadDocument) (courante.Document, error) {
	return c.flights.do(ctx, key+" "+flight, func() (courante.Document, error) { return c.make(key, load) })
}

// refreshSoon loads the document again, while readers have the one that is there.
func (c *Client) refreshSoon(key string, load courante.LoadDocument) {
	c.flights.begin(key, func() (courante.Document, error) { return c.make(key, load) })
}

// loadTimeout is for a source of truth that does not answer. It is not the
// callers' to cancel: others wait for the same document.
const loadTimeout = 30 * time.Second

func (c *Client) make(key string, load courante.LoadDocument) (courante.Document, error) {
	ctx, cancel := context.WithTimeout(c.ctx, loadTimeout)
	defer cancel()
	start := time.Now()
	d, err := load(ctx)
	if err != nil || key == "" {
		return d, err
	}
	c.flights.spawn(func() { c.keep(key, d, time.Since(start)) })
	return d, nil
}

// keep puts a document that somebody loaded. Whoever has a newer version of it
// has put it, or will, and so an older one loses.
func (c *Client) keep(key string, d courante.Document, took time.Duration) {
	conn, err := c.connection()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.config.ReadTimeout)
	defer cancel()
	w := c.write("", &d, took)
	if err := putDocument.Exec(ctx, conn, []string{key}, w.Args).Error(); err != nil && c.ctx.Err() == nil {
		c.metrics.unkept.Add(ctx, 1)
		c.log.Debug("a document was not kept", "key", key, "error", err)
	}
}
