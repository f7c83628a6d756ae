package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/redis/rueidis"
)

// streamLength is about how many messages a stream keeps. They are for readers
// who were away for a moment: who was away for longer reads the log.
const streamLength = "1000"

// blockFor is how long a reader waits for a message at a time, and with what
// comes on top how soon it notices a Redis that stands still.
const blockFor = time.Second

// streamKey is that of a log's stream. All of them are in one slot of a Cluster,
// so that a process reads all with one command.
func (c *Client) streamKey(log string) string {
	return c.config.Prefix + ":{broadcast}:" + log
}

// Tell adds a message to the log's stream; see [courante.Broadcast].
func (c *Client) Tell(ctx context.Context, log string, events []courante.Event, to courante.Cursor) error {
	conn, err := c.connection()
	if err != nil {
		return courante.Transient(err)
	}
	place, err := json.Marshal(to)
	if err != nil {
		return err
	}
	data, err := json.Marshal(events)
	if err != nil {
		return err
	}
	err = conn.Do(ctx, conn.B().Xadd().Key(c.streamKey(log)).Maxlen().Almost().Threshold(streamLength).Id("*").
		FieldValue().FieldValue("to", string(place)).FieldValue("events", rueidis.BinaryString(data)).Build()).Error()
	if err != nil {
		return courante.Transient(fmt.Errorf("redis: broadcast: %w", err))
	}
	return nil
}

// Place returns what the last message keeps; see [courante.Broadcast].
func (c *Client) Place(ctx context.Context, log string) (to courante.Cursor, err error) {
	conn, err := c.connection()
	if err != nil {
		return to, courante.Transient(err)
	}
	last, err := conn.Do(ctx, conn.B().Xrevrange().Key(c.streamKey(log)).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil {
		return to, courante.Transient(fmt.Errorf("redis: broadcast: %w", err))
	}
	if len(last) > 0 {
		_ = json.Unmarshal([]byte(last[0].FieldValues["to"]), &to) // it is not ours if it fails, and then says nothing
	}
	return to, nil
}

// Hear reads the streams of the logs, with one command for all; see
// [courante.Broadcast]. It goes on where it was when it failed last.
func (c *Client) Hear(ctx context.Context, logs []string, heard func(log string, events []courante.Event)) error {
	conn, err := c.connection()
	if err != nil {
		return courante.Transient(err)
	}
	names := map[string]string{}
	keys, ids := make([]string, len(logs)), make([]string, len(logs))
	for i, log := range logs {
		keys[i] = c.streamKey(log)
		names[keys[i]] = log
		if ids[i], err = c.heardLast(ctx, conn, keys[i]); err != nil {
			return courante.Transient(fmt.Errorf("redis: broadcast: %w", err))
		}
	}
	for {
		limited, cancel := context.WithTimeout(ctx, 2*blockFor)
		messages, err := conn.Do(limited, conn.B().Xread().Count(100).Block(blockFor.Milliseconds()).Streams().Key(keys...).Id(ids...).Build()).AsXRead()
		cancel()
		if err != nil && !rueidis.IsRedisNil(err) {
			return courante.Transient(fmt.Errorf("redis: broadcast: %w", err))
		}
		for i, key := range keys {
			for _, m := range messages[key] {
				ids[i] = m.ID
				c.heard.Store(key, m.ID)
				var events []courante.Event
				if json.Unmarshal([]byte(m.FieldValues["events"]), &events) == nil { // else it is not ours
					heard(names[key], events)
				}
			}
		}
	}
}

// heardLast is the id of the message that was heard last, or the last there is.
func (c *Client) heardLast(ctx context.Context, conn rueidis.Client, key string) (string, error) {
	if id, ok := c.heard.Load(key); ok {
		return id.(string), nil
	}
	limited, cancel := context.WithTimeout(ctx, blockFor)
	defer cancel()
	last, err := conn.Do(limited, conn.B().Xrevrange().Key(key).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil || len(last) == 0 {
		return "0-0", err
	}
	c.heard.Store(key, last[0].ID)
	return last[0].ID, nil
}
