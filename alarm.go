package courante

import (
	"container/heap"
	"time"
)

// alarms is a heap of the moments at which tasks are to be looked at. A task
// may have several entries; only the one for its present moment counts, the
// others are skipped when they come up.
type alarms []alarm

type alarm struct {
	at   time.Time
	task *task
}

func (h alarms) Len() int { return len(h) }
func (h alarms) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].task.id() < h[j].task.id()
}
func (h alarms) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *alarms) Push(x any)   { *h = append(*h, x.(alarm)) }
func (h *alarms) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*h = old[:len(old)-1]
	return last
}

// push adds an entry for the task's moment. Moments are whole microseconds, as
// rt.now is: otherwise a moment would seem to have come by the timer and not by
// the clock, and whoever waits for it would spin in between.
func (h *alarms) push(t *task) {
	t.at = t.at.Truncate(time.Microsecond)
	heap.Push(h, alarm{t.at, t})
}
func (h *alarms) drop() { heap.Pop(h) }

// pop returns a task whose moment has come, nil if there is none.
func (h *alarms) pop(now time.Time) *task {
	for len(*h) > 0 && !(*h)[0].at.After(now) {
		a := heap.Pop(h).(alarm)
		if a.at.Equal(a.task.at) {
			return a.task
		}
	}
	return nil
}
