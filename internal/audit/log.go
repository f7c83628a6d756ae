package audit

import (
	"cmp"
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

// eventLog is the log of one context.
type eventLog struct {
	name   string
	schema string // as SQL needs it
	label  string // as people read it
	ticks  []tick // in order
	sealed []sealedTicks
}

// tick is a tick of a log with its hash, which cursors keep.
type tick struct {
	courante.Tick
	hash uint64
}

// sealedTicks are the hashes of consecutive ticks that went with sealed parts.
type sealedTicks struct {
	first  int64
	epoch  int32
	hashes []byte // 8 bytes each, big-endian
}

// readLogs finds the logs. All of their events have to be there: what an order
// did in a part that was taken away cannot be told.
func (a *auditor) readLogs(ctx context.Context) error {
	rows, err := a.q.Query(ctx, "select name, schema_name from "+schema+".log order by name")
	if err != nil {
		return err
	}
	logs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*eventLog, error) {
		l := &eventLog{}
		err := row.Scan(&l.name, &l.label)
		l.schema = pgx.Identifier{l.label}.Sanitize()
		return l, err
	})
	if err != nil {
		return err
	}
	for _, l := range logs {
		a.logs[l.name] = l
		var part *int
		if err := a.q.QueryRow(ctx, "select min(n) from "+l.schema+".part where detached is not null").Scan(&part); err != nil {
			return err
		}
		if part != nil {
			return fmt.Errorf("part %d of log %s is detached, so its orders cannot be looked at; attach it again first, and what was detached after it before that: courante log attach %[2]s %[1]d", *part, l.name)
		}
	}
	for _, s := range a.services {
		if a.logs[s.name] == nil {
			return fmt.Errorf("the database has no log %s; was \"courante up\" ever run on it?", s.name)
		}
	}
	return nil
}

// log is the log of a service.
func (a *auditor) log(s *service) *eventLog { return a.logs[s.name] }

// readTicks reads all ticks: that they are dense, and that each snapshot sees
// all that the one before it sees, is what makes them a total order.
func (a *auditor) readTicks(ctx context.Context) error {
	epochs := map[int32]bool{}
	rows, err := a.q.Query(ctx, "select n from "+schema+".epoch")
	if err != nil {
		return err
	}
	var epoch int32
	if _, err := pgx.ForEachRow(rows, []any{&epoch}, func() error { epochs[epoch] = true; return nil }); err != nil {
		return err
	}
	c := a.checks.ticks
	rows, err = a.q.Query(ctx, "select log, n, epoch, snapshot::text from "+schema+".tick order by log, n")
	if err != nil {
		return err
	}
	var log, snapshot string
	var t tick
	if _, err := pgx.ForEachRow(rows, []any{&log, &t.N, &t.Epoch, &snapshot}, func() (err error) {
		c.LookedAt++
		name := fmt.Sprintf("%s.tick %s %d", schema, log, t.N)
		l := a.logs[log]
		if l == nil {
			c.wrong(name, "there is no log of that name")
			return nil
		}
		if t.Snapshot, err = courante.ParseSnapshot(snapshot); err != nil {
			return err
		}
		t.hash = t.Tick.Hash()
		if !epochs[t.Epoch] {
			c.wrong(name, "epoch %d is not known", t.Epoch)
		}
		if len(l.ticks) > 0 {
			a.follows(name, &l.ticks[len(l.ticks)-1], &t)
		}
		l.ticks = append(l.ticks, t)
		return nil
	}); err != nil {
		return err
	}
	for _, l := range a.logs {
		if err := a.readSealed(ctx, l); err != nil {
			return err
		}
		if err := a.readEpochs(ctx, l, epochs); err != nil {
			return err
		}
	}
	return nil
}

// follows checks a tick against the one before it.
func (a *auditor) follows(name string, before, t *tick) {
	c := a.checks.ticks
	if t.N != before.N+1 {
		c.wrong(name, "it follows tick %d: those between are missing", before.N)
	}
	switch {
	case t.Epoch < before.Epoch:
		c.wrong(name, "its epoch %d is older than epoch %d of the tick before", t.Epoch, before.Epoch)
	case t.Epoch > before.Epoch: // transaction ids start anew
	case t.Snapshot.Xmax < before.Snapshot.Xmax || t.Snapshot.Xmin < before.Snapshot.Xmin:
		c.wrong(name, "its snapshot %s does not see all that %s of the tick before sees", t.Snapshot, before.Snapshot)
	default:
		for _, xid := range t.Snapshot.InProgress {
			if before.Snapshot.Visible(xid) {
				c.wrong(name, "transaction %d is in progress in it and visible in the tick before", xid)
			}
		}
	}
}

// readSealed reads what is left of the ticks of sealed parts.
func (a *auditor) readSealed(ctx context.Context, l *eventLog) error {
	var last *int64
	if err := a.q.QueryRow(ctx, "select max(last_tick) from "+l.schema+".part where sealed is not null").Scan(&last); err != nil {
		return err
	}
	begin := int64(1)
	if last != nil {
		begin = max(*last-1, 1) // the last sealed tick may go on in the next part, and the one before says what is new in it
	}
	if len(l.ticks) > 0 && l.ticks[0].N > begin {
		a.checks.ticks.wrong(fmt.Sprintf("%s.tick %s %d", schema, l.name, l.ticks[0].N), "it is the first one; tick %d is missing", begin)
	}
	rows, err := a.q.Query(ctx, "select first, epoch, hashes from "+l.schema+".sealed_tick order by first")
	if err != nil {
		return err
	}
	l.sealed, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sealedTicks, err error) {
		return s, row.Scan(&s.first, &s.epoch, &s.hashes)
	})
	return err
}

// readEpochs checks that the events are of known epochs. There are few, so the
// index finds them without reading the log.
func (a *auditor) readEpochs(ctx context.Context, l *eventLog, known map[int32]bool) error {
	rows, err := a.q.Query(ctx, `
		with recursive e(n) as (
			select min(epoch) from `+l.schema+`.event
			union all
			select (select min(epoch) from `+l.schema+`.event where epoch > e.n) from e where e.n is not null
		) select n from e where n is not null`)
	if err != nil {
		return err
	}
	var epoch int32
	_, err = pgx.ForEachRow(rows, []any{&epoch}, func() error {
		if !known[epoch] {
			a.checks.ticks.wrong(fmt.Sprintf("%s.event of epoch %d", l.label, epoch), "the epoch is not known")
		}
		return nil
	})
	return err
}

// newer stands for the tick of an event that no tick has seen yet.
const newer = 1<<63 - 1

// tickOf is the first tick that sees the transaction: newer if none does and the
// next one will, 0 if none ever will.
func (l *eventLog) tickOf(epoch int32, xid uint64) int64 {
	i := sort.Search(len(l.ticks), func(i int) bool {
		t := &l.ticks[i]
		return t.Epoch > epoch || t.Epoch == epoch && t.Snapshot.Xmax > xid
	})
	for ; i < len(l.ticks) && l.ticks[i].Epoch == epoch; i++ {
		if l.ticks[i].Snapshot.Visible(xid) {
			return l.ticks[i].N
		}
	}
	if i < len(l.ticks) {
		return 0
	}
	return newer
}

// hashOf is the epoch and the hash of tick n; false if the log has no such tick.
func (l *eventLog) hashOf(n int64) (epoch int32, hash uint64, ok bool) {
	if len(l.ticks) > 0 {
		i := sort.Search(len(l.ticks), func(i int) bool { return l.ticks[i].N >= n })
		if i < len(l.ticks) && l.ticks[i].N == n {
			return l.ticks[i].Epoch, l.ticks[i].hash, true
		}
	}
	i := sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].first > n }) - 1
	if i < 0 {
		return 0, 0, false
	}
	at := 8 * (n - l.sealed[i].first)
	if at+8 > int64(len(l.sealed[i].hashes)) {
		return 0, 0, false
	}
	for _, b := range l.sealed[i].hashes[at : at+8] {
		hash = hash<<8 | uint64(b)
	}
	return l.sealed[i].epoch, hash, true
}

// event is one event of a log.
type event struct {
	log      *eventLog
	id       string // "log/stream@version", the causation of what follows
	of       string // what it is read by: the id of its order, or of its stream
	stream   string
	version  int64
	at       time.Time
	typ      string
	cause    string
	data     []byte
	notes    *notes
	tick     int64
	position int64
	epoch    int32
	xid      uint64
}

func (e event) key() string { return e.of }

// lane is the id part of the stream, which says by which lane it goes.
func (e *event) lane() string {
	_, id, _ := strings.Cut(e.stream, ":")
	return id
}

func inLogOrder(a, b event) int {
	return cmp.Or(cmp.Compare(a.tick, b.tick), cmp.Compare(a.position, b.position))
}

// eventColumns are what scanEvent reads, after a key.
const eventColumns = "stream, version, at, type, causation, data::text, notes::text, coalesce(tick, 0), position, epoch, xid::text::bigint"

// openEvents reads the events of a category of streams, in the order of streams
// and versions, which is that of the log's primary key.
func (a *auditor) openEvents(ctx context.Context, l *eventLog, category string) (*cursor[event], error) {
	return a.openEventsBy(ctx, l, "audit "+l.name+" "+category, fmt.Sprintf("select substr(stream, %d), %s from %s.event where %s order by stream, version, part",
		len(category)+2, eventColumns, l.schema, inCategory("stream", category)))
}

// openEventsBy reads events by a query. Whatever it hands out has been counted
// and looked at as an event of a stream.
func (a *auditor) openEventsBy(ctx context.Context, l *eventLog, name, sql string) (*cursor[event], error) {
	var last event
	return open(ctx, a.q, name, sql, func(row pgx.CollectableRow) (event, error) {
		e, err := a.scanEvent(row, l)
		if err == nil {
			a.checkEvent(&last, &e)
			last = e
		}
		return e, err
	})
}

// inCategory is SQL for the streams of a category, as the range of the index
// that they are: ';' is the character after ':'.
func inCategory(column, category string) string {
	return fmt.Sprintf("%[1]s >= '%[2]s:' and %[1]s < '%[2]s;'", column, strings.ReplaceAll(category, "'", "''"))
}

func (a *auditor) scanEvent(row pgx.CollectableRow, l *eventLog) (event, error) {
	e := event{log: l}
	var notes []byte
	if err := row.Scan(&e.of, &e.stream, &e.version, &e.at, &e.typ, &e.cause, &e.data, &notes, &e.tick, &e.position, &e.epoch, &e.xid); err != nil {
		return e, err
	}
	e.id = l.name + "/" + e.stream + "@" + strconv.FormatInt(e.version, 10)
	var err error
	if e.notes, err = parseNotes(notes); err != nil {
		a.checks.effects.wrong(e.id, "its notes cannot be read: %v", err)
	}
	if e.tick == 0 {
		if e.tick = l.tickOf(e.epoch, e.xid); e.tick == 0 {
			a.checks.streams.wrong(e.id, "no tick of epoch %d sees its transaction %d, and none ever will", e.epoch, e.xid)
		}
	}
	return e, nil
}

// checkEvent checks an event against the one before it.
func (a *auditor) checkEvent(last, e *event) {
	c := a.checks.streams
	c.LookedAt++
	before := int64(0)
	if e.stream == last.stream {
		before = last.version
		if e.tick < last.tick || e.epoch == last.epoch && e.position <= last.position {
			c.wrong(e.id, "in the log's order it comes before version %d", last.version)
		}
	}
	switch {
	case e.version == before:
		c.wrong(e.id, "the version is there twice")
	case e.version == before+2:
		c.wrong(e.id, "version %d is missing before it", before+1)
	case e.version != before+1:
		c.wrong(e.id, "versions %d to %d are missing before it", before+1, e.version-1)
	}
}
