package courante

import "time"

// Saga names a conversation of services about one thing, from the event that
// begins it to the events that end it. It is choreography: there is no
// conductor and no further code; the steps of all services that react, directly
// or indirectly, to Starts are the saga. All its events carry the same
// correlation id, and the streams of its entities have it as their key.
//
// [BuildSaga] collects those steps, and the graph that it returns can be
// checked ([SagaGraph.Check]), drawn ([SagaGraph.Mermaid], [SagaGraph.Text])
// and laid under the events of a running saga ([SagaProgress]).
type Saga struct {
	Name        string   `json:"name"`        // "order"
	Starts      string   `json:"starts"`      // type of the event that begins it
	Completed   []string `json:"completed"`   // types of events that end it well
	Compensated []string `json:"compensated"` // types of events that end it with everything undone

	// Keys names fields of its events that hold keys of further streams, where
	// the saga has events as well: a return has its own streams, and begins on
	// that of the order which its events call "order_id".
	Keys []string `json:"keys,omitempty"`

	// Within is how long one ought to take at most; one that takes longer counts
	// as overdue in the metrics. Zero: none ever does.
	Within time.Duration `json:"-"`

	// Value says, from the first event, what depends on the saga: so much of a
	// unit, such as 1250 and "GBP". The metrics sum it up for those that errors
	// delay. An empty unit stands for nothing. May be nil.
	Value func(*Event) (amount int64, unit string) `json:"-"`
}

// Saga declares a saga. The service that owns its first and last events does.
func (s *Service) Saga(saga Saga) { s.sagas = append(s.sagas, saga) }

// findHomes returns the sagas by the category of states that they live on.
func (s *Service) findHomes() map[string]string {
	var shared []string
	homes := map[string]string{}
	for i := range s.sagas {
		on := s.evolved[s.sagas[i].Starts]
		if len(on) != 1 {
			continue
		}
		if homes[on[0]] != "" || len(s.sagas[i].Keys) > 0 {
			shared = append(shared, on[0])
		}
		homes[on[0]] = s.sagas[i].Name
	}
	for _, category := range shared {
		delete(homes, category)
	}
	return homes
}

// livesOn is the saga that lives on the states to which events of the type
// happen, "" if none does.
func (g *SagaGraph) livesOn(typ string) string {
	for _, s := range g.all {
		if on := s.evolved[typ]; len(on) == 1 {
			return s.homes()[on[0]]
		}
	}
	return ""
}

// elsewhere is the other saga that lives there, "" if none does.
func (g *SagaGraph) elsewhere(typ string) string {
	if saga := g.livesOn(typ); saga != g.Name {
		return saga
	}
	return ""
}
