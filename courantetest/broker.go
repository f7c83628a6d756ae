package courantetest

import (
	"testing"

	"github.com/courante-dev/courante"
)

// BrokerFixture is what a broker is tested on: a system of the case's own, in
// which nothing was declared yet.
type BrokerFixture struct {
	// Connect gives access to it, another one at each call, as processes have.
	Connect func(t *testing.T) courante.Broker

	// Cut breaks the connections of all that Connect gave. They are made again.
	Cut func(t *testing.T)

	// Send publishes a CloudEvent, as a program outside does.
	Send func(t *testing.T, e courante.CloudEvent)

	// Refused returns the reasons of what was put aside since the last call.
	Refused func(t *testing.T) []string

	// Delete removes a queue, as somebody may who operates the broker.
	Delete func(t *testing.T, q courante.Queue)
}

// TestBroker checks that a broker keeps the contract of [courante.Broker]. open
// makes a fixture of its own for each case.
func TestBroker(t *testing.T, open func(t *testing.T) BrokerFixture) {
	for _, list := range [][]brokerCase{brokerPublish, brokerContent, brokerConsume, brokerInbox} {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				defer func() {
					if t.Failed() {
						t.Logf("the rule: %s", c.rule)
					}
				}()
				c.run(t, open(t))
			})
		}
	}
}

type brokerCase struct {
	name, rule string
	run        func(t *testing.T, f BrokerFixture)
}
