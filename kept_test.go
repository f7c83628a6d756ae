package courante_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

type added struct {
	Name string `json:"name"`
}

func (added) EventType() string { return "club.added" }

// club is a state with everything in it that an assignment does not copy.
type club struct {
	Names   []string
	Entries map[string][]string
	Last    *added
	Begun   time.Time
}

// running runs the service on its store until the test ends.
func running(t *testing.T, b base, svc *courante.Service) {
	t.Helper()
	rt, err := courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{{Service: svc, Store: b.store(svc.Name())}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until(t, "the runtime takes commands", func() bool { return rt.CheckTicker() == nil })
}

// TestAHandlerCannotChangeWhatOthersGet has handlers write all over the states
// that they were given. Others, in the same batch and later, must not see it.
func TestAHandlerCannotChangeWhatOthersGet(t *testing.T) {
	onEach(t, func(t *testing.T, b base) {
		svc := courante.NewService("club")
		svc.Emits(courante.Private, added{})
		clubs := courante.Sourced(svc, "club", courante.Evolve(func(c *club, e added) {
			c.Names = append(c.Names, e.Name)
			if c.Entries == nil {
				c.Entries = map[string][]string{}
			}
			c.Entries[e.Name] = append(c.Entries[e.Name], "by "+e.Name)
			c.Last = &e
		}))
		add := courante.NewCommand(svc, courante.Step{Name: "add", Outcomes: []courante.Outcome{{Emits: courante.Types(added{})}}})
		running(t, b, svc)
		const members = 60
		errs := make(chan error, members)
		for i := range members {
			go func() {
				name := strconv.Itoa(i)
				_, err := add.Do(t.Context(), courante.Call{Keys: []courante.Key{clubs.Key("one")}, Do: func(d *courante.Decision) error {
					c := clubs.Load(d, "one")
					c.Emit(added{name})
					// From here on it is the handler's own, to write on as it likes.
					for j := range c.State.Names {
						c.State.Names[j] = "nobody"
					}
					for entry, list := range c.State.Entries {
						list[0] = "nobody"
						delete(c.State.Entries, entry)
					}
					c.State.Last.Name = "nobody"
					c.State.Names = append(c.State.Names, "nobody")
					return nil
				}})
				errs <- err
			}()
		}
		for range members {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		var seen club
		_, err := add.Do(t.Context(), courante.Call{Keys: []courante.Key{clubs.Key("one")}, Do: func(d *courante.Decision) error {
			c := clubs.Load(d, "one")
			seen = c.State
			c.Emit(added{"last"})
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		truth, _, err := clubs.Get(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(append(slices.Clone(seen.Names), "last"), truth.Names) || len(truth.Names) != members+1 {
			t.Errorf("a handler gets the names\n%v, the stream has\n%v", seen.Names, truth.Names)
		}
		// The handler's own map has its own entry by now.
		if !maps.EqualFunc(seen.Entries, truth.Entries, slices.Equal) {
			t.Errorf("a handler gets the entries\n%v, the stream has\n%v", seen.Entries, truth.Entries)
		}
		if seen.Last.Name != seen.Names[members-1] {
			t.Errorf("the last is %s, want %s", seen.Last.Name, seen.Names[members-1])
		}
	})
}

// TestAStateWrittenElsewhereIsSeen has two programs change one state in turn:
// what a program keeps of it is never all that it looks at.
func TestAStateWrittenElsewhereIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, b base) {
		var clubs [2]*courante.Entity[club]
		var adds [2]*courante.Command
		for i := range clubs {
			svc := courante.NewService("club")
			svc.Emits(courante.Private, added{})
			clubs[i] = courante.Sourced(svc, "club", courante.Evolve(func(c *club, e added) { c.Names = append(c.Names, e.Name) }))
			adds[i] = courante.NewCommand(svc, courante.Step{Name: "add", Outcomes: []courante.Outcome{{}, {Emits: courante.Types(added{})}}})
			running(t, b, svc)
		}
		for round := range 20 {
			i := round % 2
			var saw int
			_, err := adds[i].Do(t.Context(), courante.Call{Keys: []courante.Key{clubs[i].Key("one")}, Do: func(d *courante.Decision) error {
				c := clubs[i].Load(d, "one")
				if saw = len(c.State.Names); round%3 != 2 { // else it only looks, and no conflict can tell
					c.Emit(added{strconv.Itoa(round)})
				}
				return nil
			}})
			if want := (2*round + 2) / 3; err != nil || saw != want {
				t.Fatalf("round %d: saw %d names, %v; want %d", round, saw, err, want)
			}
		}
	})
}
