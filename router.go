package courante

import (
	"fmt"
	"slices"
)

// Route says how the events of one type travel, and why that way.
type Route struct {
	EventType
	From      string     `json:"from"`      // the service that emits it
	Transport string     `json:"transport"` // what carries it: "log"
	Why       string     `json:"why"`       // a sentence for the operator
	To        []Receiver `json:"to"`        // who reacts to it, in the order of the services
	Watched   bool       `json:"watched"`   // it changes a state that can be watched; see [Watch]
}

// Receiver is a service that reacts to a type of event.
type Receiver struct {
	Service string   `json:"service"`
	Lanes   int      `json:"lanes"` // its events are spread over that many, by key
	Steps   []string `json:"steps"` // what it does
}

// Routes explains the router: for every type of event that the services emit,
// who receives it by which transport. An event type says what delivery it
// needs and never names a transport, so this is a function of the declarations
// and of the configuration alone: it needs no database and no running system.
// lanes is that of [Config]; 0 means its default.
func Routes(services []*Service, lanes int) []Route {
	if lanes == 0 {
		lanes = defaultLanes
	}
	var routes []Route
	for _, s := range services {
		for _, t := range s.emitted {
			r := Route{EventType: t, From: s.name, To: []Receiver{}, Watched: s.tells(t.Name)}
			for _, other := range services {
				reactions := other.reactions[t.Name]
				if len(reactions) == 0 {
					continue
				}
				to := Receiver{Service: other.name, Lanes: lanes}
				for _, reaction := range reactions {
					to.Steps = append(to.Steps, reaction.Name)
				}
				r.To = append(r.To, to)
			}
			r.Transport, r.Why = carry(r)
			routes = append(routes, r)
		}
	}
	return routes
}

// carry chooses the transport for a need. The log serves all of them: it is
// durable, ordered by key, fresh within a tick, and read in batches. A broker
// is worth its price when subscribers are many or elsewhere, not because the
// log would be less safe.
func carry(r Route) (transport, why string) {
	transport = (*logTransport)(nil).Name()
	need, received := r.Need, len(r.To) > 0
	switch {
	case need == Private && !received:
		return transport, fmt.Sprintf("private to %s: it never leaves its log, where it is history", r.From)
	case need == Private:
		return transport, fmt.Sprintf("private to %s: only its own lanes read it, from its log", r.From)
	case need == Realtime && r.Watched && !received:
		return transport, "realtime: whoever watches is told from the end of the log, and over Redis if there is one"
	case !received:
		return transport, "nobody subscribes yet: it waits in the log, and whoever subscribes later begins at the start"
	case need == Realtime:
		return transport, "realtime: services that react read the log, which loses nothing and is fresh within a tick"
	case need == Bulk:
		return transport, "bulk: its receivers read the log in batches, which no broker makes cheaper"
	}
	return transport, "critical, and no broker is configured: read from the log itself, which is as durable and as ordered as a queue"
}

// tells reports whether those who watch a state of the service hear of events of
// that type.
func (s *Service) tells(typ string) bool {
	return slices.ContainsFunc(s.watches, func(w *Watch) bool { return contains(w.types, typ) })
}

// Routes is the function of that name, for the services of the runtime.
func (rt *Runtime) Routes() []Route {
	var services []*Service
	for _, n := range rt.nodes {
		services = append(services, n.svc)
	}
	return Routes(services, rt.cfg.Lanes)
}
