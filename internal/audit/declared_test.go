package audit

import (
	"testing"

	"github.com/courante-dev/courante"
)

// shipper declares a service that ships once it knows an order and its payment,
// in any order of arrival.
func shipper(t *testing.T) *service {
	t.Helper()
	s, err := newService(courante.Manifest{
		Service: "shipper",
		Events:  []courante.EventType{{Name: "noted"}, {Name: "paid"}, {Name: "asked"}, {Name: "sent"}, {Name: "told"}},
		Steps: []courante.ManifestStep{
			{Name: "note", On: "event", Trigger: "payment", Unless: []string{"noted", "paid"}, Outcomes: []courante.Outcome{{Emits: []string{"paid"}}}},
			{Name: "ship", On: "event", Trigger: "payment", When: []string{"noted"}, Unless: []string{"asked"}, Outcomes: []courante.Outcome{
				{Emits: []string{"asked", "told"}}, {Emits: []string{"sent"}},
			}},
			{Name: "tell", On: "event", Trigger: "end", Outcomes: []courante.Outcome{{Emits: []string{"told"}}, {}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExplains(t *testing.T) {
	t.Parallel()
	s := shipper(t)
	tests := []struct {
		rule    string
		past    []string
		emitted []string
		want    bool
	}{
		{"nothing needs no explanation", nil, nil, true},
		{"an outcome of a step that is allowed", nil, []string{"paid"}, true},
		{"another outcome of it", []string{"noted"}, []string{"sent"}, true},
		{"an outcome of several events, in any order", []string{"noted"}, []string{"told", "asked"}, true},
		{"half of an outcome", []string{"noted"}, []string{"asked"}, false},
		{"a step that was not allowed yet", nil, []string{"sent"}, false},
		{"a step that was not allowed any more", []string{"noted", "asked"}, []string{"sent"}, false},
		{"a step twice", []string{"noted"}, []string{"sent", "sent"}, false},
	}
	for _, tt := range tests {
		var emitted []set
		for _, typ := range tt.emitted {
			emitted = append(emitted, s.bits[typ])
		}
		if got := explains(s.steps[trigger{"event", "payment"}], s.set(tt.past), emitted, 0); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.rule, got, tt.want)
		}
	}
}

func TestBoundWithin(t *testing.T) {
	t.Parallel()
	s := shipper(t)
	tests := []struct {
		rule  string
		on    string
		pasts [][]string
		want  string // the step, "" if none was bound
	}{
		{"a step that was allowed", "payment", [][]string{{}}, "note"},
		{"one or the other was, wherever it came", "payment", [][]string{{}, {"noted"}}, "ship"},
		{"it may have come when none was", "payment", [][]string{{}, {"paid"}, {"paid", "noted"}}, ""},
		{"none was any more", "payment", [][]string{{"noted", "asked"}}, ""},
		{"a step that may do nothing is never bound", "end", [][]string{{}}, ""},
	}
	for _, tt := range tests {
		var pasts []set
		for _, past := range tt.pasts {
			pasts = append(pasts, s.set(past))
		}
		got := ""
		if st := boundWithin(s.event[tt.on], pasts); st != nil {
			got = st.name
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.rule, got, tt.want)
		}
	}
}

// TestWindow wants the events of one stream to have been handled in their order,
// and those of a service by itself after they happened.
func TestWindow(t *testing.T) {
	t.Parallel()
	mine, other := &eventLog{name: "mine"}, &eventLog{name: "other"}
	from := []event{
		{log: other, id: "a@1", stream: "a"}, {log: other, id: "a@2", stream: "a"},
		{log: other, id: "b@1", stream: "b"}, {log: other, id: "a@3", stream: "a"},
	}
	own := []event{
		{log: mine, id: "m@1", cause: "command:1"}, {log: mine, id: "m@2", cause: "a@1"}, {log: mine, id: "m@3", cause: "a@1"},
		{log: mine, id: "m@4", cause: "b@1"}, {log: mine, id: "m@5", cause: "a@3"},
	}
	for _, tt := range []struct {
		rule      string
		from      []event
		j         int
		low, high int
	}{
		{"after what came of the event before it, and before what came of the one after", from, 1, 3, 4},
		{"another stream says nothing", from, 2, 0, 5},
		{"its own event", own, 1, 2, 5},
	} {
		if low, high := window(own, tt.from, tt.j); low != tt.low || high != tt.high {
			t.Errorf("%s: got %d to %d, want %d to %d", tt.rule, low, high, tt.low, tt.high)
		}
	}
}

func TestTickOf(t *testing.T) {
	t.Parallel()
	l := &eventLog{}
	for n, snapshot := range []string{"10:10:", "10:14:11,12", "12:15:12", "3:5:4", "5:6:"} {
		s, err := courante.ParseSnapshot(snapshot)
		if err != nil {
			t.Fatal(err)
		}
		epoch := int32(1)
		if n > 2 {
			epoch = 2
		}
		l.ticks = append(l.ticks, tick{Tick: courante.Tick{N: int64(n + 1), Epoch: epoch, Snapshot: s}})
	}
	for _, tt := range []struct {
		rule  string
		epoch int32
		xid   uint64
		want  int64
	}{
		{"seen by the first", 1, 9, 1},
		{"in progress in the second", 1, 11, 3},
		{"seen by the second", 1, 13, 2},
		{"its epoch ended without it", 1, 12, 0},
		{"the same number in another epoch", 2, 4, 5},
		{"newer than the last", 2, 6, newer},
		{"of an epoch without ticks", 3, 1, newer},
	} {
		if got := l.tickOf(tt.epoch, tt.xid); got != tt.want {
			t.Errorf("%s: got tick %d, want %d", tt.rule, got, tt.want)
		}
	}
}
