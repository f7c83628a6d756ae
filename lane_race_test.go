package courante_test

import (
	"context"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// slowEpochs is a store on which something else happens between the first look
// at the lane epochs and its answer.
type slowEpochs struct {
	courante.Store
	meanwhile func() // called once
}

func (s *slowEpochs) LaneEpochs(ctx context.Context, subscriber, log string) ([]courante.LaneEpoch, error) {
	list, err := s.Store.LaneEpochs(ctx, subscriber, log)
	if happens := s.meanwhile; happens != nil {
		s.meanwhile = nil
		happens()
	}
	return list, err
}

// TestLanesDeclareTheirEpochTogether: two lanes of one process begin at the
// same moment, and the one that looked first is answered last. What it saw is
// older than what its own process has declared, which does not make it an
// older program.
func TestLanesDeclareTheirEpochTogether(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{})
	from, to := courante.NewService("from"), courante.NewService("to")
	from.Emits(courante.Critical, routedCritical{})
	hear[routedCritical](to, "hear")
	store := &slowEpochs{Store: db.Store("to")}
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Stepped: true, Lanes: 2,
		Services: []courante.Mount{{Service: from, Store: db.Store("from")}, {Service: to, Store: store}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lanes []*courante.Actor
	for _, a := range rt.Actors() {
		if strings.HasPrefix(a.Name, "lane to/") {
			lanes = append(lanes, a)
		}
	}
	step := func(a *courante.Actor) {
		if _, err := a.Step(t.Context()); err != nil {
			t.Error(err)
		}
	}
	store.meanwhile = func() { step(lanes[1]) }
	step(lanes[0])
	if err := rt.CheckLanes(); err != nil {
		t.Errorf("a lane of the only program there is stopped: %v", err)
	}
}
