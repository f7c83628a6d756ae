// Package postgres keeps the logs, states and progress of bounded contexts in
// PostgreSQL 15 or newer, and reads the logs without losing an event.
//
// # Opening
//
// A [Database] is one PostgreSQL database; a [Store] is the memory of one
// context in it, in a schema of its own. Both bring their schemas up to date
// when they are opened, however many processes start at once.
//
//	db, err := postgres.Open(ctx, postgres.Config{URL: "postgres://app@localhost/shop"})
//	...
//	defer db.Close()
//	orders, err := db.Store(ctx, "ordering")
//
// Where no server is at hand, [StartServer] runs one for development and
// tests.
//
// # Appending
//
// [Store.Append] adds events to a stream. Appends that are under way together
// share a statement and a commit, which makes them an order of magnitude
// cheaper than one transaction each; the conflict, the oversize or the
// impatience of one is nobody else's. Config.Committers says on how many
// connections.
//
//	receipt, err := orders.Append(ctx, "order:17", 0, created)
//
// # Units of work
//
// [Store.Begin] starts a transaction that loads states, and writes events,
// states, progress, parked messages and replies together, in as many
// statements as there are kinds of them. Statements travel in one round trip
// with the begin and the commit around them: the server checks what it wrote
// and never reaches the commit if something is missing.
//
//	unit, err := orders.Begin(ctx)
//	...
//	defer unit.Rollback(ctx)
//	states, err := unit.Load(ctx, keys, nil)
//	...
//	receipt, err := unit.Commit(ctx, changes)
//
// # Reading the log
//
// Positions are given out before a transaction commits, so tailing them loses
// events. The ticker ([Database.Tick]) records snapshots instead, and
// [Store.ReadLog] returns what became visible between one and the next: every
// event once, streams in order, whatever transactions stay open meanwhile.
//
// # Growing old
//
// A log is kept in parts, which are closed, sealed and detached; see
// [Store.ClosePart]. Progress and replies are kept in partitions that
// [Store.Maintain] makes ahead and drops; call it every few minutes.
//
// Errors that pass by themselves wrap courante.ErrTransient, and a commit whose
// answer was lost wraps courante.ErrUnknownOutcome.
package postgres
