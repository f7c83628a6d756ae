package courantetest_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// plantedInFleets are bugs of relays, lanes and brokers.
var plantedInFleets = []struct {
	name string
	bug  badBroker
}{
	{"links between messages are ignored", badBroker{take: ignoreLinks}},
	{"a relay does not hear of what is missing", badBroker{asked: func(q courante.RelayRequest) bool { return !q.Again }}},
	{"a relay does not hear of new lane epochs", badBroker{asked: func(q courante.RelayRequest) bool { return q.Epoch.N == 1 }}},
	{"marks tell of what could not be sent", badBroker{publish: markAllTheSame}},
	{"what was not confirmed counts as sent", badBroker{publish: assumeConfirmed}},
	{"events of a key change places, and their links do not", badBroker{take: swapEvents}},
	{"messages change places and links are ignored", badBroker{take: func(list []courante.Delivery) []courante.Delivery {
		return ignoreLinks(reorder(list))
	}}},
}

func TestPlantedBugsOfFleetsAreFound(t *testing.T) {
	t.Parallel()
	for _, p := range plantedInFleets {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 100; seed++ {
				if run := fleetWith(p.bug).Run(seed); run.Err != nil {
					t.Logf("found after %d seeds: %s", seed, strings.SplitN(run.Err.Error(), "\n", 2)[0])
					return
				}
			}
			t.Error("not found within 100 seeds")
		})
	}
}

// What a broker does beyond its contract the links make up for.
func TestLinksMakeUpForBrokers(t *testing.T) {
	t.Parallel()
	for name, manner := range map[string]badBroker{
		"messages change places":                {take: reorder},
		"messages are lost":                     {loses: 0.2},
		"messages are forgotten when delivered": {forget: true},
		"messages come twice":                   {publish: publishTwice},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			build := func() courantetest.Simulation[*market] { return fleetWith(manner) }
			if _, err := courantetest.Explore(t.Context(), 1, max(courantetest.Seeds()/20, 1), build, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func fleetWith(b badBroker) courantetest.Simulation[*market] {
	s, chance := fleetOf(shopping(flaws{})), rand.New(rand.NewPCG(0, 0)) // the same in each run
	s.Broker = func(good courante.Broker) courante.Broker {
		bad := b
		bad.Broker, bad.rand = good, chance
		return &bad
	}
	return s
}

// badBroker is a service's access to a broker, with a bug. The fields that are
// nil have none.
type badBroker struct {
	courante.Broker
	publish func(context.Context, courante.Broker, []courante.Message) error
	take    func([]courante.Delivery) []courante.Delivery
	asked   func(courante.RelayRequest) bool // the relay hears of it
	forget  bool                             // what was delivered, at once
	loses   float64                          // of what is delivered
	rand    *rand.Rand
}

func (b *badBroker) Publish(ctx context.Context, messages []courante.Message) error {
	if b.publish == nil {
		return b.Broker.Publish(ctx, messages)
	}
	return b.publish(ctx, b.Broker, messages)
}

func (b *badBroker) Consume(ctx context.Context, q courante.Queue) (courante.Consumption, error) {
	c, err := b.Broker.Consume(ctx, q)
	if err != nil {
		return nil, err
	}
	return &badConsumption{c, b}, nil
}

type badConsumption struct {
	courante.Consumption
	b *badBroker
}

func (c *badConsumption) Take(ctx context.Context, max int) ([]courante.Delivery, error) {
	list, err := c.Consumption.Take(ctx, max)
	if err != nil || len(list) == 0 {
		return list, err
	}
	if c.b.forget {
		return list, c.Consumption.Ack(ctx, list[len(list)-1].Tag)
	}
	if c.b.loses > 0 {
		list = slices.DeleteFunc(list, func(courante.Delivery) bool { return c.b.rand.Float64() < c.b.loses })
	}
	if c.b.take != nil {
		list = c.b.take(list)
	}
	return list, nil
}

func (b *badBroker) Asked(ctx context.Context, log string) (courante.Requests, error) {
	r, err := b.Broker.Asked(ctx, log)
	if err != nil || b.asked == nil {
		return r, err
	}
	return &badRequests{r, b}, nil
}

type badRequests struct {
	courante.Requests
	b *badBroker
}

func (r *badRequests) Take(ctx context.Context, max int) ([]courante.RelayRequest, error) {
	list, err := r.Requests.Take(ctx, max)
	return slices.DeleteFunc(list, func(q courante.RelayRequest) bool { return !r.b.asked(q) }), err
}

func ignoreLinks(list []courante.Delivery) []courante.Delivery {
	for i := range list {
		list[i].Link.Before = courante.Cursor{}
	}
	return list
}

// reorder turns what arrives around. The tags stay in their order.
func reorder(list []courante.Delivery) []courante.Delivery {
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
		list[i].Tag, list[j].Tag = list[j].Tag, list[i].Tag
	}
	return list
}

// markAllTheSame sends the marks of a publication that failed, as if nothing had
// come before them.
func markAllTheSame(ctx context.Context, b courante.Broker, messages []courante.Message) error {
	err := b.Publish(ctx, messages)
	if err == nil {
		return nil
	}
	for _, m := range messages {
		if m.Event == nil {
			m.Links = slices.Clone(m.Links)
			for i := range m.Links {
				m.Links[i].Before = courante.Cursor{}
			}
			_ = b.Publish(ctx, []courante.Message{m})
		}
	}
	return err
}

func assumeConfirmed(ctx context.Context, b courante.Broker, messages []courante.Message) error {
	_ = b.Publish(ctx, messages)
	return nil
}

// swapEvents gives events of a stream the places and links of each other, as a
// relay does that reads the log in another order.
func swapEvents(list []courante.Delivery) []courante.Delivery {
	last := map[string]int{} // by stream
	for i := range list {
		e := list[i].Event
		if e == nil {
			continue
		}
		if before, ok := last[e.Stream]; ok {
			list[i].Event, list[before].Event = list[before].Event, e
		}
		last[e.Stream] = i
	}
	return list
}

func publishTwice(ctx context.Context, b courante.Broker, messages []courante.Message) error {
	if err := b.Publish(ctx, messages); err != nil {
		return err
	}
	return b.Publish(ctx, messages)
}
