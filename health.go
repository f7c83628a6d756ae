package courante

import (
	"errors"
	"fmt"
	"time"
)

// tickerSilence is how long the ticker may be without an answer of the
// database before it counts as failed: a few polls and the longest pause.
const tickerSilence = 4*idlePoll + maxPause

// CheckLanes says which services have a lane that stopped for good and waits
// for a repair, or because it was retired; nil if none has. What else a service does goes on, so a failed
// check is for alerting a person, and a restart does not help.
func (rt *Runtime) CheckLanes() error {
	var errs []error
	for _, n := range rt.nodes {
		if err := n.whyStopped(); err != nil {
			errs = append(errs, fmt.Errorf("service %s stopped: %w", n.svc.name, err))
		}
	}
	return errors.Join(errs...)
}

// CheckTicker says so if the ticker has had no answer of the database for a
// while: then nothing that is written becomes visible to its readers.
func (rt *Runtime) CheckTicker() error {
	rt.mu.Lock()
	running := rt.running
	rt.mu.Unlock()
	last := rt.ticked.Load()
	switch {
	case !running:
		return errors.New("the runtime is not running")
	case last == 0:
		return errors.New("the ticker has not ticked yet")
	}
	if silent := rt.now().Sub(time.Unix(0, last)); silent > tickerSilence {
		return fmt.Errorf("the ticker has had no answer for %s", silent.Round(time.Second))
	}
	return nil
}
