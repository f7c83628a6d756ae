package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ReadSaga tells where the saga with that id stands, and returns its events. It
// reads the streams that have the id as their key, and those that [Saga.Keys]
// names, in the store of every service that takes part, and so costs the same
// however long the logs are. ErrNotFound if the saga has not begun.
//
// It asks one store after the other, while the saga goes on: what a service did
// in between may be missing where its cause is there, never the reverse of
// what one service's log says.
func ReadSaga(ctx context.Context, g *SagaGraph, mounts []Mount, id string, now time.Time) (SagaStatus, []Event, error) {
	return newSagaReader(mounts).read(ctx, g, id, []string{id}, now)
}

// ReadSagas tells where all sagas stand that have to do with the thing of that
// key: the one with that id, and those that left events on its streams, such as
// the returns of an order. Those that began first come first. ErrNotFound if
// there are none.
func ReadSagas(ctx context.Context, graphs []*SagaGraph, mounts []Mount, key string, now time.Time) ([]SagaStatus, error) {
	r := newSagaReader(mounts)
	events, err := r.events(ctx, key)
	if err != nil {
		return nil, err
	}
	var sagas []SagaStatus
	seen := map[string]bool{"": true}
	for i := range events {
		id := events[i].Correlation
		if seen[id] {
			continue
		}
		seen[id] = true
		for _, g := range graphs {
			status, _, err := r.read(ctx, g, id, []string{id, key}, now)
			if errors.Is(err, ErrNotFound) {
				continue // events of this id are another saga's
			}
			if err != nil {
				return nil, err
			}
			sagas = append(sagas, status)
		}
	}
	if len(sagas) == 0 {
		return nil, fmt.Errorf("saga %q: %w", key, ErrNotFound)
	}
	slices.SortStableFunc(sagas, func(a, b SagaStatus) int { return a.began().Compare(b.began()) })
	return sagas, nil
}

func (s SagaStatus) began() time.Time {
	if len(s.Steps) == 0 {
		return time.Time{}
	}
	return s.Steps[0].At
}

// sagaReader reads what several sagas may need once.
type sagaReader struct {
	mounts []Mount
	byKey  map[string][]Event
}

func newSagaReader(mounts []Mount) *sagaReader {
	return &sagaReader{mounts: mounts, byKey: map[string][]Event{}}
}

// read reads the saga's events from the streams with these keys and with those
// that its events name.
func (r *sagaReader) read(ctx context.Context, g *SagaGraph, id string, keys []string, now time.Time) (SagaStatus, []Event, error) {
	var events []Event
	begun := false
	keys = slices.Compact(keys) // both may be the same
	for i := 0; i < len(keys); i++ {
		all, err := r.events(ctx, keys[i])
		if err != nil {
			return SagaStatus{}, nil, fmt.Errorf("read saga %s %s: %w", g.Name, id, err)
		}
		for _, e := range all {
			// A stream of another kind of thing may have an id that is equal
			// by accident.
			if e.Correlation != id {
				continue
			}
			events = append(events, e)
			begun = begun || e.Type == g.Starts
			for _, key := range e.strings(g.Keys) {
				if !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}
	if !begun {
		return SagaStatus{}, nil, fmt.Errorf("saga %s %q: %w", g.Name, id, ErrNotFound)
	}
	var parked []Parked
	for _, m := range r.mounts {
		aside, err := m.Store.Parked(ctx, m.Service.name, ParkedQuery{Correlation: id})
		if err != nil {
			return SagaStatus{}, nil, fmt.Errorf("read saga %s %s: %w", g.Name, id, err)
		}
		parked = append(parked, aside...)
	}
	return SagaProgress(g, events, parked, now), events, nil
}

// events are those on all streams with that key.
func (r *sagaReader) events(ctx context.Context, key string) ([]Event, error) {
	if events, known := r.byKey[key]; known {
		return events, nil
	}
	var events []Event
	for _, m := range r.mounts {
		for _, entity := range m.Service.entities {
			stream := Key{Category: entity.Category, ID: key}.Stream()
			for e, err := range m.Store.ReadStream(ctx, stream, 0) {
				if err != nil {
					return nil, err
				}
				events = append(events, e)
			}
		}
	}
	r.byKey[key] = events
	return events, nil
}

// strings are the values of those fields of the payload that are texts.
func (e *Event) strings(fields []string) []string {
	if len(fields) == 0 {
		return nil
	}
	var payload map[string]json.RawMessage
	if json.Unmarshal(e.Data, &payload) != nil {
		return nil // no object has no fields
	}
	var values []string
	for _, name := range fields {
		var value string
		if json.Unmarshal(payload[name], &value) == nil && value != "" {
			values = append(values, value)
		}
	}
	return values
}
