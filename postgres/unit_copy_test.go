//go:build linux || darwin

package postgres

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
)

func sourcedKey(id string) courante.Key {
	return courante.Key{Category: "order", ID: id, Sourced: true}
}

// loads begins a unit that has loaded the streams, whose events it can then add
// without asking for their predecessors.
func loads(t *testing.T, s *Store, keys ...courante.Key) courante.Unit {
	t.Helper()
	u := mustBegin(t, s)
	if _, err := u.Load(t.Context(), keys, nil); err != nil {
		t.Fatal(err)
	}
	return u
}

func isCertain(t *testing.T, u courante.Unit, events ...courante.Event) bool {
	t.Helper()
	own := u.(*unit)
	w, err := newWrite(own.store, courante.Changes{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return own.certain(w, own.store.part.Load())
}

// What a unit has loaded it need not ask for again, and who was faster meanwhile
// is found all the same: nothing is written, and the stream is named.
func TestUnitAddsToWhatItHasLoaded(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	if err := commit(t, s, courante.Changes{Events: []courante.Event{eventAt("order:1", 1), eventAt("order:2", 1)}}); err != nil {
		t.Fatal(err)
	}
	slow := loads(t, s, sourcedKey("1"), sourcedKey("2"), sourcedKey("3"))
	both := []courante.Event{eventAt("order:1", 2), eventAt("order:2", 2), eventAt("order:3", 1)}
	if !isCertain(t, slow, both...) {
		t.Error("the unit is to ask for what it has loaded")
	}
	if isCertain(t, slow, eventAt("order:4", 2)) || isCertain(t, slow, eventAt("order:1", 3)) {
		t.Error("the unit is not to ask for what it has not seen")
	}
	fast := loads(t, s, sourcedKey("2"))
	if _, err := fast.Commit(t.Context(), courante.Changes{Events: []courante.Event{eventAt("order:2", 2), eventAt("order:2", 3)}}); err != nil {
		t.Fatal(err)
	}
	_, err := slow.Commit(t.Context(), courante.Changes{Events: both})
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Streams, []string{"order:2"}) {
		t.Errorf("error %v, want a conflict on order:2", err)
	}
	wantVersions(t, s, "order:1", 1)
	wantVersions(t, s, "order:2", 3)
	wantVersions(t, s, "order:3", 0)

	again := loads(t, s, sourcedKey("1"))
	receipt, err := again.Commit(t.Context(), courante.Changes{Events: []courante.Event{eventAt("order:1", 2)}})
	if err != nil || receipt.Token.Xid == 0 {
		t.Fatalf("token %v, error %v", receipt.Token, err)
	}
	mustTick(t, s.db)
	if _, err := s.Locate(t.Context(), receipt.Token); err != nil {
		t.Errorf("the token's place: %v", err)
	}
}

// The primary key tells of the open part only, so what a unit has seen counts as
// long as that part is the open one, and a stream that is new in it may be in an
// older one.
func TestUnitAsksForWhatOlderPartsMayHave(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	stored := courante.Key{Category: "stock", ID: "tea"}
	change := func(row, version int64) courante.Changes {
		return courante.Changes{
			Events: []courante.Event{eventAt("stock:tea", version)},
			States: []courante.State{{Key: stored, Row: row, Version: version, Data: json.RawMessage(`{}`)}},
		}
	}
	if err := commit(t, s, change(0, 1)); err != nil {
		t.Fatal(err)
	}
	u := loads(t, s, stored)
	if _, err := s.ClosePart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var conflict *courante.ConflictError
	if _, err := u.Commit(t.Context(), change(1, 2)); !errors.As(err, &conflict) || len(conflict.Streams) > 0 {
		t.Errorf("commit to the part that was closed: %v, want a conflict on no stream", err)
	}
	u = loads(t, s, stored)
	u.(*unit).part = 1 // as if the next one had been opened after the load
	if isCertain(t, u, eventAt("stock:tea", 2)) {
		t.Error("the part is another than when it was loaded, and the unit does not ask")
	}
	u.Rollback(t.Context())
	u = loads(t, s, stored, sourcedKey("new"))
	if isCertain(t, u, eventAt("order:new", 1)) {
		t.Error("a new stream may be in an older part, and the unit does not ask")
	}
	if !isCertain(t, u, eventAt("stock:tea", 2)) {
		t.Error("the unit is to ask for what it has loaded in the open part")
	}
	if _, err := u.Commit(t.Context(), change(1, 2)); err != nil {
		t.Fatal(err)
	}
	wantVersions(t, s, "stock:tea", 2)
}

// What is not JSON is refused by the server, as the caller's mistake, whichever
// way the events go.
func TestUnitWithWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	for name, version := range map[string]int64{"copied": 1, "asked for": 2} {
		bad := eventAt("order:bad", version)
		bad.Data = json.RawMessage(`{`)
		err := commit(t, s, courante.Changes{Events: []courante.Event{bad}})
		if err == nil || errors.Is(err, courante.ErrTransient) || errors.Is(err, courante.ErrUnknownOutcome) {
			t.Errorf("%s: error %v, want one that does not pass", name, err)
		}
		wantVersions(t, s, "order:bad", 0)
	}
}
