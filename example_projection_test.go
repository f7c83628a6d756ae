package courante_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
)

type Scored struct {
	Player string `json:"player"`
	Points int64  `json:"points"`
}

func (Scored) EventType() string { return "game.scored" }

// A projection keeps SQL tables of the service's own, in the transaction of the
// events, for questions that no key answers.
func ExampleSelect() {
	game := courante.NewService("game")
	game.Emits(courante.Private, Scored{})
	rounds := courante.Sourced[struct{}](game, "round")
	score := courante.NewCommand(game, courante.Step{Name: "score", Outcomes: []courante.Outcome{{Emits: courante.Types(Scored{})}}})
	game.Tables(fstest.MapFS{"001_ranking.sql": {Data: []byte( // a program embeds a folder
		"create table {schema}.ranking (player text primary key, points bigint not null);")}})
	game.Project(courante.Projection{
		Name: "ranking", Version: 1, Tables: []string{"ranking"}, Types: courante.Types(Scored{}),
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			players, points := make([]string, len(events)), make([]int64, len(events))
			for i := range events {
				e, err := courante.Decode[Scored](&events[i])
				if err != nil {
					return err
				}
				players[i], points[i] = e.Player, e.Points
			}
			b.Queue(`insert into {schema}.ranking as r
				select player, sum(points) from unnest($1::text[], $2::bigint[]) as e (player, points) group by player
				on conflict (player) do update set points = r.points + excluded.points`, players, points)
			return nil
		},
	})

	ctx, stop := context.WithCancel(context.Background())
	db, err := postgres.Open(ctx, postgres.Config{URL: courantetest.PostgresURL(&testing.T{}), Schema: "example_select"})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	store, err := db.Store(ctx, "game")
	if err != nil {
		log.Fatal(err)
	}
	rt, err := courante.NewRuntime(courante.Config{Database: db, Services: []courante.Mount{{Service: game, Store: store}}})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()

	for round, s := range []Scored{{"ada", 3}, {"bob", 5}, {"ada", 4}} {
		id := fmt.Sprint(round)
		if _, err := score.Do(ctx, courante.Call{Keys: []courante.Key{rounds.Key(id)}, Do: func(d *courante.Decision) error {
			rounds.Load(d, id).Emit(s)
			return nil
		}}); err != nil {
			log.Fatal(err)
		}
	}
	best, err := courante.Select(ctx, game, pgx.RowToStructByPos[Scored], "select player, points from {schema}.ranking order by points desc")
	fmt.Println(best, err)
	stop()
	fmt.Println(<-ended)
	// Output:
	// [{ada 7} {bob 5}] <nil>
	// <nil>
}
