// Package redis keeps near to readers what can be had again from PostgreSQL. It
// is an adapter of courante on Redis, alone, with Sentinel or as a Cluster.
//
// [Open] gives a [Client], which implements courante.Cache: documents in the
// memory of the process, which Redis tells what has changed (level 1), in Redis
// (level 2), and behind both the source of truth:
//
//	client, err := redis.Open(redis.Config{URLs: []string{"redis://localhost"}})
//	rt, err := courante.NewRuntime(courante.Config{Cache: client, ...})
//
// Nothing waits for Redis. A read that it does not answer within
// Config.ReadTimeout goes to the source of truth, and after a few of those all
// do, until Redis answers the client's own question again. So it may be slow,
// full, empty or gone, and readers get what is right, only later.
//
// It also implements courante.Broadcast, by which processes tell one another what
// watchers wait for: a capped stream for each log, and one blocking read for all
// of them.
//
// Keys begin with Config.Prefix. The value of a document begins with its
// version, in 20 digits, by which a script decides who may write.
package redis
