package courante_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
)

// The ward tries everything that can go wrong in a dry run, by the key of its
// message.
func newWard(touch func()) *courante.Service {
	ward := courante.NewService("ward")
	ward.Emits(courante.Critical, grown{})
	beds := courante.Stored[page](ward, "bed")
	charts := courante.Sourced[count](ward, "chart", courante.Evolve(func(c *count, _ grown) { c.N++ }))
	treat := courante.NewEffect(ward, courante.EffectSpec[string, string]{
		Step: courante.Step{Name: "treated", Outcomes: []courante.Outcome{{}}}, Effect: "treat", UntilAnswered: true,
		Perform: func(context.Context, string, string) (string, error) { panic("a dry run has performed an effect") },
		Then:    func(*courante.Decision, string, string, string) error { return nil },
	})
	courante.On(ward, courante.Reaction[counted]{
		Step: courante.Step{Name: "admit", Outcomes: []courante.Outcome{{}, {Emits: courante.Types(grown{}), Asks: []string{"treat"}}}},
		Do: func(d *courante.Decision, e counted) error {
			bed := beds.Load(d, e.Key)
			s := bed.State
			s.Numbers = append(s.Numbers[:len(s.Numbers):len(s.Numbers)], e.N)
			bed.Put(s)
			switch e.Key {
			case "panics":
				panic("at the disco")
			case "fails":
				return errors.New("no bed")
			case "rounds":
				for i := range 100 {
					beds.Load(d, fmt.Sprint("room", i))
				}
			case "large":
				charts.Load(d, e.Key).Emit(grown{strings.Repeat("large", 1<<20)}, treat.Ask("now"))
			case "conflict":
				charts.Load(d, e.Key)
				touch()
				charts.Load(d, e.Key).Emit(grown{"small"})
			case "treated":
				charts.Load(d, e.Key).Emit(grown{"small"}, treat.Ask("now"))
			}
			return nil
		},
	})
	return ward
}

func TestDryRunSaysWhatWouldHappenAndDoesNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		ctx := t.Context()
		store := b.store("ward")
		touched := int64(0)
		ward := newWard(func() {
			if touched < 3 { // somebody else changes what was loaded, three times
				e := courante.Event{Type: "echo.grown", Schema: 1, Data: []byte(`{}`)}
				if _, err := store.Append(ctx, "chart:conflict", touched, e); err != nil {
					t.Error(err)
				}
				touched++
			}
		})
		var messages []courante.Parked
		for _, key := range []string{"fine", "panics", "panics", "fails", "rounds", "large", "large", "conflict", "treated", "fine"} {
			messages = append(messages, courante.Parked{ID: int64(len(messages) + 1), Subscriber: "ward", Reaction: "admit", Key: key, Cause: "x", Attempts: 6,
				Event: courante.Event{Log: "source", Type: "source.counted", Schema: 1, Stream: "counter:" + key, Version: int64(len(messages) + 1),
					Data: fmt.Appendf(nil, `{"key":%q,"n":%d}`, key, len(messages)+1)}})
		}
		gone := messages[0]
		gone.ID, gone.Key, gone.Event.Stream, gone.Reaction = 11, "gone", "counter:gone", "a reaction of old"
		messages = append(messages, gone)
		trials, err := courante.DryRun(ctx, courante.Mount{Service: ward, Store: store}, messages)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			failure string
			waits   bool
			events  int
			after   string
		}{
			{after: `{"Numbers":[1],"Text":""}`},
			{failure: `panic in "admit": at the disco`},
			{waits: true},
			{failure: "no bed"},
			{failure: "still ask for further states"},
			{failure: "write: "},
			{waits: true},
			{events: 1, after: `{"Numbers":[8],"Text":""}`},
			{events: 1, after: `{"Numbers":[9],"Text":""}`},
			{after: `{"Numbers":[1,10],"Text":""}`},
			{failure: `"a reaction of old" to source.counted is not declared`},
		} {
			got := trials[i]
			what := fmt.Sprintf("message %d (%s)", i+1, messages[i].Key)
			if got.Waits != want.waits || len(got.Events) != want.events || got.Message.ID != messages[i].ID {
				t.Errorf("%s: waits %v, %d events; want %v, %d", what, got.Waits, len(got.Events), want.waits, want.events)
			}
			switch {
			case want.failure == "" && got.Failure != nil:
				t.Errorf("%s fails with %q, want it to go through", what, got.Failure.Cause)
			case want.failure != "" && (got.Failure == nil || !strings.Contains(got.Failure.Cause, want.failure)):
				t.Errorf("%s: failure %+v, want %q", what, got.Failure, want.failure)
			}
			after := ""
			if len(got.States) > 0 {
				after = string(got.States[0].After)
			}
			if after != want.after {
				t.Errorf("%s would store %q, want %q", what, after, want.after)
			}
		}
		if e := trials[8].Events[0]; e.Notes == nil || len(e.Notes.Ask) != 1 || e.Notes.Ask[0].Effect != "treat" {
			t.Errorf("the event of the treatment has notes %+v, want that it asks for it", e.Notes)
		}
		if before := trials[9].States[0].Before; string(before) != string(trials[0].States[0].After) {
			t.Errorf("the second of a key begins with %s, want what the first left", before)
		}
		if touched != 3 {
			t.Errorf("there were %d conflicts, want 3", touched)
		}

		states, err := store.Read(ctx, []courante.Key{{Category: "bed", ID: "fine"}, {Category: "chart", ID: "treated", Sourced: true}, {Category: "chart", ID: "conflict", Sourced: true}})
		if err != nil || states[0].Row != 0 || states[1].Version != 0 || states[2].Version != 3 {
			t.Errorf("states after it are %+v (error %v), want nothing of the dry run", states, err)
		}
		if aside, err := store.Aside(ctx, "ward", nil); err != nil || len(aside.Keys) != 0 {
			t.Errorf("aside are %+v (error %v), want nothing", aside.Keys, err)
		}
	})
}
