package memory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

func Example() {
	ctx := context.Background()
	db := memory.New(memory.Config{})
	store := db.Store("ordering")

	placed := courante.Event{Type: "shop.order_placed", Schema: 1, Data: json.RawMessage(`{"items":2}`)}
	paid := courante.Event{Type: "shop.order_paid", Schema: 1, Data: json.RawMessage(`{}`)}
	if _, err := store.Append(ctx, "order:17", 0, placed); err != nil {
		log.Fatal(err)
	}
	if _, err := store.Append(ctx, "order:17", 1, paid); err != nil {
		log.Fatal(err)
	}

	// Somebody else decided on the order as it was before the payment.
	_, err := store.Append(ctx, "order:17", 1, paid)
	var conflict *courante.ConflictError
	fmt.Println("conflict:", errors.As(err, &conflict), conflict.Streams)

	// A tick decides the order of what is new; from then on it can be read.
	if _, err := db.Tick(ctx); err != nil {
		log.Fatal(err)
	}
	events, cursor, err := store.ReadLog(ctx, courante.Cursor{}, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Println(e.ID(), e.Type)
	}
	fmt.Println("tick", cursor.Tick)
	// Output:
	// conflict: true [order:17]
	// ordering/order:17@1 shop.order_placed
	// ordering/order:17@2 shop.order_paid
	// tick 1
}

// A test decides who runs when: here a unit is open between its insert and
// its commit while another one commits and a tick is made.
func ExampleConfig_pause() {
	ctx := context.Background()
	var db *memory.Database
	var store *memory.Store
	held := false
	db = memory.New(memory.Config{Pause: func(point string) error {
		if point != memory.PointAppendWrite || held {
			return nil
		}
		held = true // the first append stands here, with position 1, while the second passes it
		if _, err := store.Append(ctx, "order:2", 0, courante.Event{Type: "shop.order_placed", Schema: 1}); err != nil {
			return err
		}
		_, err := db.Tick(ctx)
		return err
	}})
	store = db.Store("ordering")
	if _, err := store.Append(ctx, "order:1", 0, courante.Event{Type: "shop.order_placed", Schema: 1}); err != nil {
		log.Fatal(err)
	}
	if _, err := db.Tick(ctx); err != nil {
		log.Fatal(err)
	}
	events, _, err := store.ReadLog(ctx, courante.Cursor{}, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Printf("tick %d, position %d: %s\n", e.Tick, e.Position, e.ID())
	}
	// Output:
	// tick 1, position 2: ordering/order:2@1
	// tick 2, position 1: ordering/order:1@1
}
