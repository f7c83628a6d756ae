// Package memory is a store in process: the log, the states and the lanes of
// bounded contexts, as package postgres keeps them, without a server. Examples
// and unit tests run on it, and the simulation searches it for bugs. It is
// honest: what PostgreSQL would let go wrong, it lets go wrong too.
//
// To try a service out, [Start] it:
//
//	stop, err := memory.Start(bank, greeter)
//
// A [Database] is what one PostgreSQL database is: the logs of several
// contexts, one counter of transaction ids, one ticker. A [Store] is one
// process's handle on one of its logs:
//
//	db := memory.New(memory.Config{})
//	store := db.Store("ordering")
//	store.Append(ctx, "order:17", 0, placed)
//	db.Tick(ctx)
//	events, cursor, err := store.ReadLog(ctx, courante.Cursor{}, 100)
//
// # Transactions
//
// What PostgreSQL decides early and shows late is modelled so. A transaction
// gets its id with its first write (a row lock is one), an event its position
// when it is inserted, and both are seen by others at the commit. A transaction
// that began early and commits late therefore has low numbers and appears in a
// late tick, which is the case that breaks relays that follow the numbers.
// Ticks record snapshots, and readers derive the order from them with
// [courante.Order], as they do on PostgreSQL.
//
// Inserting a key that an open transaction has inserted waits for that
// transaction's end, as a unique index does; a locked row is waited for in the
// same way. A circle of waiters is found by the one who closes it: its
// transaction is the victim and fails with [courante.ErrTransient].
//
// # Simulation
//
// With [Config.Pause] set the store never blocks: at each point where another
// actor may run it calls Pause, outside of any lock, and a deterministic
// scheduler switches coroutines there. Waiting is a loop of Pause. An error that
// Pause returns is injected: see the Point constants for what it means where.
// [Database.Crash] is what the death of a process does to its transactions, and
// [Database.Restore] what the restore of a backup does to a log's readers.
// Nothing here depends on the order of a map, the scheduler or the wall clock:
// the same calls in the same order give the same answers.
package memory
