package memory

import (
	"maps"
	"slices"

	"github.com/courante-dev/courante"
)

// Backup is a copy of a database at one moment, for [Database.Restore].
type Backup struct {
	xid       uint64
	completed uint64
	epoch     int32
	logs      map[string]*log
}

// Backup copies everything that is committed.
func (db *Database) Backup() *Backup {
	db.mu.Lock()
	defer db.mu.Unlock()
	return &Backup{xid: db.xid, completed: db.completed, epoch: db.epoch, logs: copyLogs(db.logs)}
}

// Restore does what restoring that backup does to a fleet that is running:
// open transactions are lost, whatever was committed after the backup is
// gone, and a new epoch begins, in which transaction ids and positions of the
// lost part are given out again. Events that were committed and in no tick yet
// become the last tick of the epoch before. A cursor into the lost part gets
// *courante.LogBrokenError from now on, and one before it reads on.
//
// A log that was opened after the backup is empty again. A backup can be
// restored more than once.
func (db *Database) Restore(b *Backup) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, t := range slices.Clone(db.open) {
		t.end(errRestored)
	}
	restored := copyLogs(b.logs)
	for _, name := range db.names {
		l := restored[name]
		if l == nil {
			l = newLog(name)
		}
		if l.commits > l.ticked {
			// Transactions that were open at the backup are in it nowhere, so
			// that everything given out so far is decided.
			end := courante.Snapshot{Xmin: b.xid + 1, Xmax: b.xid + 1}
			l.ticks = append(l.ticks, l.nextTick(b.epoch, end))
			l.ticked = l.commits
		}
		db.logs[name] = l
	}
	db.xid, db.completed = b.xid, b.xid
	db.epoch++ // of the database, not of the backup: no epoch is lived twice
}

// copyLogs copies tables and not rows: a committed row never changes in place,
// except for the slots and the slices that are cut to their length here.
func copyLogs(logs map[string]*log) map[string]*log {
	copied := make(map[string]*log, len(logs))
	for name, l := range logs {
		c := newLog(name)
		c.position, c.commits, c.ticked, c.parkedID = l.position, l.commits, l.ticked, l.parkedID
		c.ticks = slices.Clone(l.ticks)
		for _, a := range l.eras {
			c.eras = append(c.eras, &era{a.epoch, slices.Clone(a.xids), maps.Clone(a.rows)})
		}
		for name, s := range l.streams {
			c.streams[name] = &stream{events: slices.Clip(s.events)}
		}
		for name, s := range l.states {
			c.states[name] = &state{row: s.row}
		}
		c.snapshots = maps.Clone(l.snapshots)
		for key, p := range l.lanes {
			c.lanes[key] = &lane{last: p.last}
		}
		for key, list := range l.epochs {
			c.epochs[key] = slices.Clone(list)
		}
		for key, r := range l.replies {
			c.replies[key] = &reply{Reply: r.Reply, at: r.at}
		}
		for _, line := range l.parkedInLine {
			for _, p := range line {
				c.park(p.Parked)
			}
		}
		copied[name] = c
	}
	return copied
}
