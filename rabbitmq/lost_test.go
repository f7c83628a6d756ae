package rabbitmq_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

// TestConsumersSurviveDeletion deletes the queues of consumers, again and again.
// Who declares and consumes a queue while RabbitMQ is deleting it may be told
// that all went well and stay with a queue that is not there, without ever being
// told; others make the queue again, and its messages wait for nobody.
func TestConsumersSurviveDeletion(t *testing.T) {
	t.Parallel()
	config := rabbitmq.Config{URLs: []string{courantetest.RabbitMQURL(t)}, Prefix: courantetest.RabbitMQPrefix()}
	consuming, deleting := open(t, config), open(t, config)
	var all sync.WaitGroup
	for n := range 2 {
		q := courante.Queue{Subscriber: fmt.Sprint("lost", n), Lanes: 1}
		c, err := consuming.Consume(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all.Go(func() {
			for round := range 3 {
				if err := deleting.Delete(t.Context(), q); err != nil {
					t.Error(err)
					return
				}
				// As relays do when a message comes back.
				for deleting.Declare(t.Context(), q) != nil {
					time.Sleep(time.Millisecond)
				}
				if !consumed(t.Context(), deleting, q) {
					t.Errorf("nobody consumes %s after it was deleted %d times", q.Subscriber, round+1)
					return
				}
			}
		})
	}
	all.Wait()
}

// consumed waits until somebody consumes the queue.
func consumed(ctx context.Context, b *rabbitmq.Broker, q courante.Queue) bool {
	for end := time.Now().Add(flowPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		states, err := b.Topology(ctx, q)
		if err == nil && states[0].Consumers > 0 {
			return true
		}
	}
	return false
}
