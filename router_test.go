package courante_test

import (
	"strings"
	"testing"

	"github.com/courante-dev/courante"
)

type routedCritical struct{}
type routedRealtime struct{}
type routedBulk struct{}
type routedPrivate struct{}
type routedUnheard struct{}
type routedWatched struct{}

func (routedCritical) EventType() string { return "test.critical" }
func (routedRealtime) EventType() string { return "test.realtime" }
func (routedBulk) EventType() string     { return "test.bulk" }
func (routedPrivate) EventType() string  { return "test.private" }
func (routedUnheard) EventType() string  { return "test.unheard" }
func (routedWatched) EventType() string  { return "test.watched" }

// hear declares a reaction that does nothing.
func hear[P courante.Payload](s *courante.Service, name string) {
	courante.On(s, courante.Reaction[P]{
		Step: courante.Step{Name: name, Outcomes: []courante.Outcome{{}}},
		Do:   func(*courante.Decision, P) error { return nil },
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	from, to, other := courante.NewService("from"), courante.NewService("to"), courante.NewService("other")
	from.Emits(courante.Critical, routedCritical{}, routedUnheard{})
	from.Emits(courante.Realtime, routedRealtime{})
	from.Emits(courante.Bulk, routedBulk{})
	from.Emits(courante.Private, routedPrivate{})
	from.Emits(courante.Realtime, routedWatched{})
	seen := courante.Sourced(from, "seen", courante.Evolve(func(*int, routedWatched) {}))
	courante.NewWatch(seen, courante.WatchSpec[int]{
		Of:   courante.NewCollection(seen, "seen", 1, func(string, int, []courante.Event) (any, error) { return nil, nil }),
		Show: func(string, int, *courante.Event) (any, error) { return nil, nil },
	})
	hear[routedPrivate](from, "hear itself")
	hear[routedCritical](to, "first")
	hear[routedCritical](to, "second")
	hear[routedRealtime](to, "show")
	hear[routedCritical](other, "third")
	hear[routedBulk](other, "count")

	tests := []struct {
		typ   string
		need  courante.Need
		to    string // receivers and their steps
		lanes int
		why   string // what the sentence must say
	}{
		{"test.critical", courante.Critical, "to: first, second; other: third", 3, "no broker is configured"},
		{"test.unheard", courante.Critical, "", 0, "nobody subscribes"},
		{"test.realtime", courante.Realtime, "to: show", 3, "loses nothing"},
		{"test.bulk", courante.Bulk, "other: count", 3, "batches"},
		{"test.private", courante.Private, "from: hear itself", 3, "private to from"},
		{"test.watched", courante.Realtime, "", 0, "whoever watches"},
	}
	routes := courante.Routes([]*courante.Service{from, to, other}, 3)
	if len(routes) != len(tests) {
		t.Fatalf("got %d routes, want one for each type of event: %+v", len(routes), routes)
	}
	for i, tt := range tests {
		r := routes[i]
		var receivers []string
		lanes := 0
		for _, rec := range r.To {
			receivers = append(receivers, rec.Service+": "+strings.Join(rec.Steps, ", "))
			lanes = rec.Lanes
		}
		if r.Name != tt.typ || r.Need != tt.need || r.From != "from" || r.Transport != "log" {
			t.Errorf("got %s (%s) from %s by %s, want %s (%s) from from by log", r.Name, r.Need, r.From, r.Transport, tt.typ, tt.need)
		}
		if got := strings.Join(receivers, "; "); got != tt.to || lanes != tt.lanes {
			t.Errorf("%s goes to %q over %d lanes, want %q over %d", tt.typ, got, lanes, tt.to, tt.lanes)
		}
		if r.Watched != (tt.typ == "test.watched") {
			t.Errorf("%s is watched: %v", tt.typ, r.Watched)
		}
		if !strings.Contains(r.Why, tt.why) {
			t.Errorf("%s is explained by %q, want %q in it", tt.typ, r.Why, tt.why)
		}
	}
	if again := courante.Routes([]*courante.Service{from, to, other}, 0); again[0].To[0].Lanes != 1 {
		t.Errorf("got %d lanes without a configuration, want the default of 1", again[0].To[0].Lanes)
	}
}
