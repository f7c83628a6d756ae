package main

import (
	"context"

	"github.com/courante-dev/courante"
)

// What the letters note for themselves. Private events never leave their
// service.
type (
	Written struct {
		Reader string `json:"reader"`
	}
	Posted struct{}
)

func (Written) EventType() string { return "letters.written" }
func (Posted) EventType() string  { return "letters.posted" }

// Letter is what is posted to a reader who is late.
type Letter struct {
	Reader string `json:"reader"`
	Book   string `json:"book"`
}

// NewLetters declares the service "letters": it hears of loans that are overdue
// and has the post office, which is outside, deliver a reminder. post is called
// until it answers, with the same key for the same letter.
func NewLetters(post func(ctx context.Context, key string, l Letter) error) *courante.Service {
	types := courante.Types
	svc := courante.NewService("letters")
	svc.Emits(courante.Private, Written{}, Posted{})
	letters := courante.Sourced[struct{}](svc, "letter")
	office := courante.NewEffect(svc, courante.EffectSpec[Letter, struct{}]{
		Step:   courante.Step{Name: "note that it is posted", Outcomes: []courante.Outcome{{Emits: types(Posted{})}}},
		Effect: "post", UntilAnswered: true,
		Perform: func(ctx context.Context, key string, l Letter) (struct{}, error) {
			return struct{}{}, post(ctx, key, l)
		},
		Then: func(d *courante.Decision, id string, _ Letter, _ struct{}) error {
			letters.Load(d, id).Emit(Posted{})
			return nil
		},
	})
	courante.On(svc, courante.Reaction[Overdue]{
		Step: courante.Step{
			Name: "remind", Unless: types(Written{}),
			Outcomes: []courante.Outcome{{Emits: types(Written{}), Asks: []string{"post"}}},
		},
		Keys: func(e Overdue) []courante.Key { return []courante.Key{letters.Key(e.Loan)} },
		Do: func(d *courante.Decision, e Overdue) error {
			letters.Load(d, e.Loan).Emit(Written{e.Reader}, office.Ask(Letter{e.Reader, e.Book}))
			return nil
		},
	})
	return svc
}
