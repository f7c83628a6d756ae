//go:build linux || darwin

package postgres

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

func TestOperationGetsItsOutcomeOnce(t *testing.T) {
	t.Parallel()
	db, _ := openConfig(t, NewTestConfig(t))
	ctx := t.Context()
	before := time.Now().Add(-time.Minute)
	id, err := db.RecordOperation(ctx, Operation{Who: "ann@desk", By: "Ann", Command: "log detach", Target: "ordering 1"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := db.Operations(ctx, before, 10)
	if err != nil || len(list) != 1 || list[0].Outcome != "" || !list[0].Ended.IsZero() {
		t.Fatalf("operations %+v (error %v), want one that has not ended", list, err)
	}
	failed := Operation{ID: id, Outcome: "it is\x00 needed", Detail: map[string]int{"events": 3}}
	if _, err := db.RecordOperation(ctx, failed); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RecordOperation(ctx, Operation{ID: id, Outcome: OperationDone}); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("a second outcome: %v, want ErrNotFound", err)
	}
	if _, err := db.RecordOperation(ctx, Operation{Who: "bob@desk", Command: "log close", Target: "payment", Outcome: OperationDone}); err != nil {
		t.Fatal(err)
	}
	list, err = db.Operations(ctx, before, 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d operations (error %v), want 2", len(list), err)
	}
	if op := list[0]; op.Who != "bob@desk" || op.Outcome != OperationDone || op.Ended.IsZero() {
		t.Errorf("the newest is %+v, want Bob's, done", op)
	}
	op := list[1]
	if detail, _ := op.Detail.(json.RawMessage); op.Outcome != "it is needed" || op.By != "Ann" || string(detail) != `{"events":3}` || op.Ended.Before(op.At) {
		t.Errorf("the oldest is %+v with detail %s, want Ann's with its outcome", op, detail)
	}
	if list, err := db.Operations(ctx, list[0].At, 10); err != nil || len(list) != 1 {
		t.Errorf("%d operations since the newest (error %v), want 1", len(list), err)
	}
	if list, err := db.Operations(ctx, before, 1); err != nil || len(list) != 1 || list[0].Who != "bob@desk" {
		t.Errorf("the newest one is %+v (error %v), want Bob's", list, err)
	}
}
