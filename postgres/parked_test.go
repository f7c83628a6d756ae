//go:build linux || darwin

package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// park sets messages aside: one of each cause in turn for each key, which ""
// makes wait behind the ones before.
func park(t *testing.T, s *Store, key string, causes ...string) {
	t.Helper()
	var c courante.Changes
	for i, cause := range causes {
		p := courante.Parked{Subscriber: s.name, Reaction: "charge", Key: key, Cause: cause,
			Event: courante.Event{Log: "ordering", Stream: "order:" + key, Version: int64(i + 1), Data: json.RawMessage(`{}`)}}
		if cause != "" {
			p.Fingerprint, p.Attempts, p.FirstBy, p.LastBy = "f-"+cause, 6, "v1", "v2"
			p.FirstFailed = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			p.LastFailed = p.FirstFailed.Add(time.Hour)
		}
		c.Park = append(c.Park, p)
	}
	u, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func commandOf(name string) Operation { return Operation{Who: "ann@desk", Command: name} }

func TestRequeueAndDiscardAreOnRecord(t *testing.T) {
	t.Parallel()
	db, s := openConfig(t, NewTestConfig(t))
	ctx := t.Context()
	park(t, s, "a", "x", "", "")
	park(t, s, "b", "y")
	revision := func() int64 {
		aside, err := s.Aside(ctx, s.name, []string{})
		if err != nil || len(aside.Keys) != 0 {
			t.Fatalf("aside are %+v (error %v), want the revision alone", aside, err)
		}
		return aside.Revision
	}
	before := revision()

	// 2 and 3 only wait, 99 is not there.
	got, err := s.Requeue(ctx, []int64{99, 3, 4, 2, 1}, commandOf("deadletter requeue"))
	if err != nil || !slices.Equal(got, []Requeued{{1, 6}, {4, 6}}) {
		t.Fatalf("requeued %+v (error %v), want 1 and 4 after 6 attempts", got, err)
	}
	if revision() != before+1 {
		t.Errorf("the revision went from %d to %d, want one more", before, revision())
	}
	aside, err := s.Aside(ctx, s.name, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range aside.Keys {
		if k.RetryAt.IsZero() || k.RetryAt.After(time.Now()) {
			t.Errorf("key %s is tried again at %s, want a time that is past", k.Key, k.RetryAt)
		}
	}

	discarded, err := s.Discard(ctx, []int64{1, 99}, "the customer has\x00 died", commandOf("deadletter discard"))
	if err != nil || !slices.Equal(discarded, []int64{1}) {
		t.Fatalf("discarded %v (error %v), want 1", discarded, err)
	}
	list, err := s.ParkedMessages(ctx, ParkedFilter{Discarded: true})
	if err != nil || len(list) != 1 || list[0].ID != 1 || list[0].Discarded != "the customer has died" || list[0].Resolved.IsZero() || list[0].Cause != "x" {
		t.Errorf("the record of what was discarded is %+v (error %v), want message 1 with its reason and its cause", list, err)
	}
	if aside, _ := s.Aside(ctx, s.name, []string{"a"}); len(aside.Keys) != 1 || aside.Keys[0].Failed {
		t.Errorf("key a is %+v, want it to go on with what waited", aside.Keys)
	}
	resolved, failed, err := s.ParkedResults(ctx, got)
	if err != nil || !slices.Equal(resolved, []int64{1}) || len(failed) != 0 {
		t.Errorf("resolved %v, failed %v (error %v); want 1 and none", resolved, failed, err)
	}
	park4, _ := s.ParkedMessages(ctx, ParkedFilter{IDs: []int64{4}})
	again := park4[0].Parked
	again.Attempts++
	u, _ := s.Begin(ctx)
	if _, err := u.Commit(ctx, courante.Changes{Park: []courante.Parked{again}}); err != nil {
		t.Fatal(err)
	}
	if _, failed, err := s.ParkedResults(ctx, got); err != nil || !slices.Equal(failed, []int64{4}) {
		t.Errorf("failed again are %v (error %v), want 4", failed, err)
	}

	// Nothing done, nothing recorded.
	now := revision()
	if got, err := s.Requeue(ctx, []int64{1, 2}, commandOf("deadletter requeue")); err != nil || len(got) != 0 {
		t.Errorf("requeued %v (error %v), want none", got, err)
	}
	if got, err := s.Discard(ctx, []int64{1}, "again", commandOf("deadletter discard")); err != nil || len(got) != 0 {
		t.Errorf("discarded %v (error %v), want none", got, err)
	}
	ops, err := db.Operations(ctx, time.Time{}, 10)
	if err != nil || len(ops) != 2 || revision() != now {
		t.Fatalf("%d operations on record (error %v), revision %d; want 2 and %d", len(ops), err, revision(), now)
	}
	for i, want := range []string{`{"reason": "the customer has died", "messages": [1]}`, `{"messages": [1, 4]}`} {
		var have, wanted any
		_ = json.Unmarshal(ops[i].Detail.(json.RawMessage), &have)
		_ = json.Unmarshal([]byte(want), &wanted)
		if fmt.Sprint(have) != fmt.Sprint(wanted) || ops[i].Outcome != OperationDone {
			t.Errorf("operation %d is %q with detail %s, want done with %s", i, ops[i].Outcome, ops[i].Detail, want)
		}
	}
}

// TestTwoOperatorsAtOnce has one discard what another requeues: each message
// gets one of the two, and both know which.
func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	_, s := openConfig(t, NewTestConfig(t))
	var ids []int64
	for i := range 100 {
		park(t, s, fmt.Sprint(i), "x")
		ids = append(ids, int64(i+1))
	}
	backwards := slices.Clone(ids)
	slices.Reverse(backwards)
	var discarded []int64
	var errs [2]error
	var both sync.WaitGroup
	both.Go(func() {
		for part := range slices.Chunk(backwards, 7) {
			if _, err := s.Requeue(t.Context(), part, commandOf("deadletter requeue")); err != nil {
				errs[0] = err
			}
		}
	})
	both.Go(func() {
		for part := range slices.Chunk(ids, 9) {
			got, err := s.Discard(t.Context(), part, "never mind", commandOf("deadletter discard"))
			discarded, errs[1] = append(discarded, got...), err
		}
	})
	both.Wait()
	if errs[0] != nil || errs[1] != nil || len(discarded) != len(ids) {
		t.Fatalf("discarded %d of %d, errors %v", len(discarded), len(ids), errs)
	}
	left, err := s.Parked(t.Context(), s.name, courante.ParkedQuery{})
	if err != nil || len(left) != 0 {
		t.Errorf("%d are left (error %v), want none: what is discarded is not requeued", len(left), err)
	}
	if got, err := s.Requeue(t.Context(), ids, commandOf("deadletter requeue")); err != nil || len(got) != 0 {
		t.Errorf("%d that were discarded could be requeued (error %v)", len(got), err)
	}
}

func TestParkedGroups(t *testing.T) {
	t.Parallel()
	_, s := openConfig(t, NewTestConfig(t))
	ctx := t.Context()
	for i := range 3 {
		park(t, s, fmt.Sprintf("a%d", i), "x", "", "")
	}
	park(t, s, "b", "y")
	park(t, s, "c", "x")
	if _, err := s.Requeue(ctx, []int64{11}, commandOf("deadletter requeue")); err != nil {
		t.Fatal(err)
	}
	groups, err := s.ParkedGroups(ctx)
	if err != nil || len(groups) != 2 {
		t.Fatalf("%d groups (error %v), want 2", len(groups), err)
	}
	x, first := groups[0], time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := ParkedGroup{Fingerprint: "f-x", Reaction: "charge", Cause: "x", Messages: 4, Behind: 6, Waiting: 3, Retry: first.Add(time.Hour), Attempts: 6,
		First: first, Last: first.Add(time.Hour), FirstBy: "v1", LastBy: "v2", FirstID: 1}
	if x != want {
		t.Errorf("the larger group is\n%+v, want\n%+v", x, want)
	}
	if y := groups[1]; y.Cause != "y" || y.Messages != 1 || y.Behind != 0 || y.Waiting != 1 {
		t.Errorf("the smaller group is %+v, want the one message of b", y)
	}

	failed, err := s.ParkedMessages(ctx, ParkedFilter{Fingerprint: "f-x", Failed: true, After: 1, Max: 2})
	if err != nil || len(failed) != 2 || failed[0].ID != 4 || failed[0].Behind != 2 || failed[0].Head != 4 || failed[1].ID != 7 {
		t.Errorf("the second page is %+v (error %v), want 4 and 7, each with 2 behind it", failed, err)
	}
	behind, err := s.ParkedMessages(ctx, ParkedFilter{IDs: []int64{6}})
	if err != nil || len(behind) != 1 || behind[0].Head != 4 || behind[0].Behind != 0 {
		t.Errorf("message 6 is %+v (error %v), want it behind 4", behind, err)
	}
	if _, err := s.Discard(ctx, []int64{1}, "no", commandOf("deadletter discard")); err != nil {
		t.Fatal(err)
	}
	groups, err = s.ParkedGroups(ctx)
	if err != nil || len(groups) != 3 || groups[2].Fingerprint != "" || groups[2].Messages != 0 || groups[2].Behind != 2 {
		t.Errorf("groups %+v (error %v), want one of a key that can go on, with 2 messages", groups, err)
	}
}

// TestForgetParked: what was resolved long ago goes, however much it is and
// whoever else is at it; what still waits stays, however old.
func TestForgetParked(t *testing.T) {
	t.Parallel()
	_, s := openConfig(t, NewTestConfig(t))
	ctx := t.Context()
	const many = 2500
	park(t, s, "a", slices.Repeat([]string{"x"}, many)...)
	park(t, s, "b", "y")
	conn := testConn(t)
	mustExec(t, conn, s, `update {schema}.parked set at = now() - interval '200 days', first_failed = at, last_failed = at`)
	mustExec(t, conn, s, `update {schema}.parked set resolved = now() - interval '91 days', discarded = case id % 2 when 0 then 'why' end where key = 'a' and id > 2`)
	mustExec(t, conn, s, `update {schema}.parked set resolved = now() - interval '89 days' where id = 2`)
	mustExec(t, conn, s, `begin; select from {schema}.parked where id = 10 for update`) // another process
	forget := func(want int64) {
		t.Helper()
		if n, err := s.ForgetParked(ctx, time.Now().AddDate(0, 0, -90)); err != nil || n != want {
			t.Fatalf("%d messages are forgotten (error %v), want %d", n, err, want)
		}
	}
	forget(many - 3)
	mustExec(t, conn, s, "commit")
	forget(1)
	forget(0)
	if list, err := s.Parked(ctx, s.name, courante.ParkedQuery{}); err != nil || len(list) != 2 {
		t.Errorf("%d messages wait (error %v), want 2", len(list), err)
	}
	if list, err := s.ParkedMessages(ctx, ParkedFilter{IDs: []int64{2}}); err != nil || len(list) != 1 {
		t.Errorf("what was handled 89 days ago is not found: %v, %v", list, err)
	}
}
