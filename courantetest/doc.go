// Package courantetest tests domains, and what domains run on.
//
// # A service by itself
//
// [Given] really runs one service, on a store in memory and a clock that stands
// still until a test lets it go on: given what happened, when something
// happens, then these events follow, or a rejection.
//
//	courantetest.Given(t, desk.Service(), lend("emma", "ann")).
//		When(courantetest.Passed(14 * 24 * time.Hour)).
//		Then(Overdue{"emma", "ann"})
//
// # Everything at once
//
// [Simulate] runs all services of a system in several processes that crash,
// freeze and come back, under one scheduler that decides everything from one
// seed. A [Simulation] says who uses the system, what is outside of it
// ([Outside]), and what must be true in the end. A failure prints the command
// that repeats it, and [Coverage] names what was declared and never happened.
// [Explore] does the same for programs, without a test.
//
//	func TestTown(t *testing.T) {
//		for _, never := range courantetest.Simulate(t, newTown).Never() {
//			t.Errorf("never taken: %s", never)
//		}
//	}
//
// # On PostgreSQL
//
// [Postgres] opens a database of the test's own on a server that the tests of
// one process share; [Main] stops it.
//
// # Adapters
//
// [TestStore] and [TestTransport] hold every implementation of those interfaces
// to the same contract, so that what holds in a simulation holds in production.
package courantetest
