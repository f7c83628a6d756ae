package app_test

import (
	"context"
	"os"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
)

type sent struct {
	Parcel string `json:"parcel"`
}

func (sent) EventType() string { return "parcels.sent" }

// A program of one service, without HTTP routes. Its main would call app.Main.
func ExampleApp_Run() {
	parcels := func() *courante.Service {
		s := courante.NewService("parcels")
		s.Emits(courante.Critical, sent{})
		return s
	}
	program := app.App{
		Name:    "parcels",
		About:   "Sends parcels.",
		Declare: func() []*courante.Service { return []*courante.Service{parcels()} },
		Open: func(context.Context, *app.Env) ([]app.Context, error) {
			return []app.Context{app.Only(parcels())}, nil
		},
	}
	program.Run(context.Background(), os.Stdout, os.Stderr, "routes")
	// Output:
	// EVENT         FROM     NEED      BY   TO  LANES  DOES
	// parcels.sent  parcels  critical  log  -
	//
	// WHY
	// critical  log  nobody subscribes yet: it waits in the log, and whoever subscribes later begins at the start
}
