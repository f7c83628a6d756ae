package courante

import (
	"context"
	"fmt"
	"time"
)

// ReadSaga tells where the saga with that id stands, and returns its events. It
// reads the streams that have the id as their key, in the store of every
// service that takes part, and so costs the same however long the logs are.
// ErrNotFound if the saga has no events.
//
// It asks one store after the other, while the saga goes on: what a service did
// in between may be missing where its cause is there, never the reverse of
// what one service's log says.
func ReadSaga(ctx context.Context, g *SagaGraph, mounts []Mount, id string, now time.Time) (SagaStatus, []Event, error) {
	var events []Event
	var parked []Parked
	for _, m := range mounts {
		for _, entity := range m.Service.entities {
			stream := Key{Category: entity.Category, ID: id}.Stream()
			for e, err := range m.Store.ReadStream(ctx, stream, 0) {
				if err != nil {
					return SagaStatus{}, nil, fmt.Errorf("read saga %s %s: %w", g.Name, id, err)
				}
				// A stream of another kind of thing may have an id that is
				// equal by accident.
				if e.Correlation == id {
					events = append(events, e)
				}
			}
		}
		aside, err := m.Store.Parked(ctx, m.Service.name)
		if err != nil {
			return SagaStatus{}, nil, fmt.Errorf("read saga %s %s: %w", g.Name, id, err)
		}
		parked = append(parked, aside...)
	}
	if len(events) == 0 {
		return SagaStatus{}, nil, fmt.Errorf("saga %s %q: %w", g.Name, id, ErrNotFound)
	}
	return SagaProgress(g, events, parked, now), events, nil
}
