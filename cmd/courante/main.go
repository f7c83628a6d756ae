// Command courante runs the reference system, the shop, and the tools for it.
// Run it without arguments for what it can do; each subcommand of the shop's
// own has a file here, those that every program has are in package app.
package main

import (
	"context"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/simulation"
)

func main() { app.Main(theShop()) }

// theShop is the program that the shop makes.
func theShop() app.App {
	flags := &deadlines{}
	return app.App{
		Name:     "courante",
		About:    "Services that dance to events: a framework, and a shop built on it.",
		Title:    "The shop on Courante",
		Declare:  declaredShop,
		Database: databaseName,
		Open: func(ctx context.Context, env *app.Env) ([]app.Context, error) {
			return openShop(ctx, env, *flags)
		},
		Flags: flags,
		Explore: func(ctx context.Context, first, runs uint64, progress func(uint64)) (*courantetest.Coverage, error) {
			return courantetest.Explore(ctx, first, runs, simulation.New, progress)
		},
		Welcome: welcome,
		Commands: []app.Command{
			{Name: "new", Group: "run", Help: "Make a project of your own, which works at once.", Value: &newCommand{}},
			{Name: "replay", Group: "run", Help: "Send recorded orders to the running system and account for every line.", Value: &replayCommand{}},
			{Name: "verify", Group: "look", Help: "Look whether everything that was written adds up.", Value: &verifyCommand{}},
			{Name: "drill", Group: "measure", Help: "Break parts of a fleet while orders flow, and verify what is left.", Value: &drillCommand{}},
			{Name: "bench", Group: "measure", Help: "Measure the engine beside what the database could do at most.", Value: &benchCommand{}},
		},
	}
}
