package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/courante-dev/courante"
	"github.com/redis/rueidis"
)

// leave is what readers may use of a collection, as this process last heard.
type leave struct {
	collection string
	current    atomic.Pointer[usable]
}

type usable struct {
	keys  string // what the keys of the generation's documents begin with
	until time.Time
}

// usable is the generation that may be read now; nil if none may.
func (l *leave) usable(now time.Time) *usable {
	if u := l.current.Load(); u != nil && now.Before(u.until) {
		return u
	}
	return nil
}

// leave returns that of the collection, which is asked for from now on.
func (c *Client) leave(collection string) *leave {
	c.mu.Lock()
	l := c.leaves[collection]
	if l != nil {
		c.mu.Unlock()
		return l
	}
	l = &leave{collection: collection}
	c.leaves[collection] = l
	c.mu.Unlock()
	return l
}

// A collection's mark and its leave are in one slot, so that one script has both.
func (c *Client) markKey(collection string) string {
	return c.config.Prefix + ":{" + collection + "}:mark"
}

func (c *Client) leaveKey(collection string) string {
	return c.config.Prefix + ":{" + collection + "}:leave"
}

// documents is what the keys of a generation's documents begin with; the id
// follows, in braces that spread them over a Cluster.
func (c *Client) documents(collection string, generation int64) string {
	return fmt.Sprintf("%s:%s:%d:", c.config.Prefix, collection, generation)
}

// askLeaves asks what readers may use of all collections that were ever read.
func (c *Client) askLeaves() error {
	conn, err := c.connection()
	if err != nil {
		return err
	}
	c.mu.Lock()
	list := make([]*leave, 0, len(c.leaves))
	for _, l := range c.leaves {
		list = append(list, l)
	}
	c.mu.Unlock()
	// A Redis that is slower than a reader waits is of no use to readers.
	ctx, cancel := context.WithTimeout(c.ctx, c.config.ReadTimeout)
	defer cancel()
	if len(list) == 0 {
		return conn.Do(ctx, conn.B().Ping().Build()).Error()
	}
	asked := time.Now()
	questions := make([]rueidis.Completed, 0, 2*len(list))
	for _, l := range list {
		key := c.leaveKey(l.collection)
		questions = append(questions, conn.B().Get().Key(key).Build(), conn.B().Pttl().Key(key).Build())
	}
	answers := conn.DoMulti(ctx, questions...)
	for i, l := range list {
		generation, err := answers[2*i].AsInt64()
		if rueidis.IsRedisNil(err) {
			l.current.Store(nil)
			continue
		}
		if err != nil {
			return err // of one answer: the others say the same
		}
		left, err := answers[2*i+1].AsInt64()
		if err != nil || left <= 0 {
			return err
		}
		l.current.Store(&usable{
			keys: c.documents(l.collection, generation), until: asked.Add(time.Duration(left) * time.Millisecond),
		})
	}
	return nil
}

// Mark returns how far the collection was carried on; see [courante.Cache].
func (c *Client) Mark(ctx context.Context, collection string) (courante.CacheMark, error) {
	conn, err := c.connection()
	if err != nil {
		return courante.CacheMark{}, courante.Transient(err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	text, err := conn.Do(ctx, conn.B().Get().Key(c.markKey(collection)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return courante.CacheMark{}, nil
	}
	if err != nil {
		return courante.CacheMark{}, courante.Transient(fmt.Errorf("redis: read the mark of %s: %w", collection, err))
	}
	generation, n, _ := strings.Cut(text, " ")
	var m courante.CacheMark
	var err2 error
	m.Generation, err = strconv.ParseInt(generation, 10, 64)
	m.N, err2 = strconv.ParseInt(n, 10, 64)
	if errors.Join(err, err2) != nil {
		return courante.CacheMark{}, nil // not ours: it is overwritten by the next generation
	}
	return m, nil
}

// writeTimeout is how long whoever carries a collection on waits for Redis.
const writeTimeout = 5 * time.Second

// setMark moves the mark, never back, and gives leave to read.
var setMark = rueidis.NewLuaScript(`
local generation, n = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if generation then
	generation, n = tonumber(generation), tonumber(n)
	local g = tonumber(ARGV[1])
	if g < generation or g == generation and tonumber(ARGV[2]) < n then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) end
return 1`)

// putDocument writes a document unless a newer version is there. Versions are in
// digits of one length, so their order is that of texts; Lua's numbers would
// lose some.
var putDocument = rueidis.NewLuaScript(`
if redis.call('GETRANGE', KEYS[1], 0, 19) > string.sub(ARGV[1], 1, 20) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)

// Put writes documents and moves the mark; see [courante.Cache].
func (c *Client) Put(ctx context.Context, collection string, mark courante.CacheMark, leave time.Duration, docs []courante.Document) error {
	conn, err := c.connection()
	if err != nil {
		return courante.Transient(err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	doing := "redis: put documents of " + collection
	if len(docs) > 0 {
		keys := c.documents(collection, mark.Generation)
		writes := make([]rueidis.LuaExec, len(docs))
		for i := range docs {
			writes[i] = c.write(keys, &docs[i], 0)
		}
		for _, res := range putDocument.ExecMulti(ctx, conn, writes...) {
			if err := res.Error(); err != nil {
				return courante.Transient(fmt.Errorf("%s: %w", doing, err))
			}
		}
		c.metrics.put.Add(ctx, int64(len(docs)), c.metrics.of(collection))
	}
	moved, err := setMark.Exec(ctx, conn, []string{c.markKey(collection), c.leaveKey(collection)}, []string{
		strconv.FormatInt(mark.Generation, 10), strconv.FormatInt(mark.N, 10), strconv.FormatInt(leave.Milliseconds(), 10),
	}).AsBool()
	if err != nil {
		return courante.Transient(fmt.Errorf("%s: %w", doing, err))
	}
	if !moved {
		return fmt.Errorf("%s: mark %d.%d is behind: %w", doing, mark.Generation, mark.N, courante.ErrFenced)
	}
	return nil
}

func (c *Client) write(keys string, d *courante.Document, took time.Duration) rueidis.LuaExec {
	return rueidis.LuaExec{
		Keys: []string{documentKey(keys, d.ID)},
		Args: []string{rueidis.BinaryString(encode(d, took, time.Now().Add(c.refresh()))), strconv.FormatInt(2*c.config.Refresh.Milliseconds(), 10)},
	}
}

func documentKey(keys, id string) string { return keys + "{" + id + "}" }
