package courante_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

type (
	caseOpened struct{}
	caseClosed struct{}
)

func (caseOpened) EventType() string { return "desk.case_opened" }
func (caseClosed) EventType() string { return "desk.case_closed" }

// The saga's check is made from declarations, so a step that does more than it
// declares is refused whatever it does, and one that does less is fine.
func TestWhatIsNotDeclaredIsRefused(t *testing.T) {
	t.Parallel()
	all := courante.Outcome{
		Emits: courante.Types(caseOpened{}, caseClosed{}),
		Asks:  []string{"call"}, Drops: []string{"call"}, Sets: []string{"reply"}, Clears: []string{"reply"},
	}
	for _, tt := range []struct {
		what    string
		without func(*courante.Outcome)
		cause   string
	}{
		{"everything is declared", func(*courante.Outcome) {}, ""},
		{"an event", func(o *courante.Outcome) { o.Emits = courante.Types(caseOpened{}) }, `event "desk.case_closed"`},
		{"an effect asked for", func(o *courante.Outcome) { o.Asks = nil }, `effect "call"`},
		{"an effect dropped", func(o *courante.Outcome) { o.Drops = nil }, `effect dropped "call"`},
		{"a deadline set", func(o *courante.Outcome) { o.Sets = nil }, `deadline set "reply"`},
		{"a deadline cleared", func(o *courante.Outcome) { o.Clears = nil }, `deadline cleared "reply"`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			outcome := all
			tt.without(&outcome)
			desk := courante.NewService("desk")
			desk.Emits(courante.Private, caseOpened{}, caseClosed{})
			cases := courante.Sourced[struct{}](desk, "case")
			call := courante.NewEffect(desk, courante.EffectSpec[string, string]{
				Step: courante.Step{Name: "hear"}, Effect: "call",
				Perform: func(context.Context, string, string) (string, error) { return "", nil },
				Then:    func(*courante.Decision, string, string, string) error { return nil },
			})
			courante.OnDeadline(cases, "reply", courante.Step{Name: "give up"}, func(*courante.Decision, string) error { return nil })
			open := courante.NewCommand(desk, courante.Step{Name: "open", Outcomes: []courante.Outcome{outcome}})

			var refused error
			courantetest.Given(t, desk).When(courantetest.Called(func(ctx context.Context) error {
				_, refused = open.Do(ctx, courante.Call{Keys: []courante.Key{cases.Key("1")}, Do: func(d *courante.Decision) error {
					c := cases.Load(d, "1")
					c.Emit(caseOpened{}, courante.Set("reply", d.Now().Add(time.Hour)), call.Ask("?"))
					c.Emit(caseClosed{}, courante.Clear("reply"), call.Drop())
					return nil
				}})
				return nil
			}))
			switch want := fmt.Sprintf(`step "open": %s is not declared in its outcomes`, tt.cause); {
			case tt.cause == "" && refused != nil:
				t.Errorf("refused: %v", refused)
			case tt.cause != "" && (refused == nil || !strings.Contains(refused.Error(), want)):
				t.Errorf("got %v, want %s", refused, want)
			}
		})
	}
}

// What sets a step off ends with it, so it may say so without declaring it.
func TestADeadlineMayClearItself(t *testing.T) {
	t.Parallel()
	desk := courante.NewService("desk")
	desk.Emits(courante.Private, caseOpened{}, caseClosed{})
	cases := courante.Sourced[struct{}](desk, "case")
	open := courante.NewCommand(desk, courante.Step{Name: "open", Outcomes: []courante.Outcome{
		{Emits: courante.Types(caseOpened{}), Sets: []string{"reply"}},
	}})
	courante.OnDeadline(cases, "reply", courante.Step{Name: "give up", Outcomes: []courante.Outcome{{Emits: courante.Types(caseClosed{})}}},
		func(d *courante.Decision, id string) error {
			cases.Load(d, id).Emit(caseClosed{}, courante.Clear("reply"))
			return nil
		})
	courantetest.Given(t, desk, courantetest.Called(func(ctx context.Context) error {
		_, err := open.Do(ctx, courante.Call{Keys: []courante.Key{cases.Key("1")}, Do: func(d *courante.Decision) error {
			cases.Load(d, "1").Emit(caseOpened{}, courante.Set("reply", d.Now().Add(time.Hour)))
			return nil
		}})
		return err
	})).When(courantetest.Passed(time.Hour)).Then(caseClosed{})
}
