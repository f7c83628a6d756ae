package postgres

import "sync"

// heads remembers versions of streams that this process has written to the
// open part of the log, so that appending the next version need not look for
// its predecessor. An entry says that the version is there and committed; it
// does not say that it is the last one. What could make it wrong is a restore or
// a failover. A restore breaks every connection first: each new connection
// begins a new generation, in which nothing is remembered from before. At a
// failover, a connection to the server that was left behind may go on for a
// while; but it is of another epoch, and such a connection knows nothing here.
//
// It keeps maxHeads to 2*maxHeads streams, those that were used last.
type heads struct {
	mu         sync.Mutex
	generation uint64
	epoch      int32 // of the last connection that was made
	part       int32 // that the versions are in
	young, old map[string]*head
}

// head is a version of a stream, 0 if none is known. It is changed by the one
// committer that has the stream, and by nobody without the lock.
type head struct{ version int64 }

// maxHeads bounds the memory to a few MB a log.
const maxHeads = 1 << 15

// begin forgets everything, because a connection was made anew, in that epoch.
func (h *heads) begin(epoch int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget()
	h.epoch = epoch
	h.generation++
}

func (h *heads) forget() { h.young, h.old = make(map[string]*head), nil }

// sure marks the calls of a group, to be written over a connection of the
// epoch, whose predecessors are known to be in the part, and returns how many
// they are, and the generation of this knowledge. A new stream needs no
// predecessor: in the first part, the primary key alone tells whether it is
// new.
func (h *heads) sure(epoch, part int32, group []*call) (generation uint64, count int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if part > h.part {
		h.forget()
		h.part = part
	}
	for _, c := range group {
		if c.head = nil; epoch == h.epoch && part == h.part {
			c.head = h.of(c.stream)
		}
		switch {
		case c.doubted:
			c.sure = false
		case c.expected == 0:
			c.sure = part == 1
		default:
			c.sure = c.head != nil && c.head.version == c.expected
		}
		if c.sure {
			count++
		}
	}
	return h.generation, count
}

// of returns the head of a stream and makes it young.
func (h *heads) of(stream string) *head {
	found := h.young[stream]
	if found != nil {
		return found
	}
	if found = h.old[stream]; found == nil {
		found = new(head)
	}
	if len(h.young) >= maxHeads {
		h.young, h.old = make(map[string]*head, maxHeads), h.young
	}
	h.young[stream] = found
	return found
}

// wrote remembers what was committed of a group, unless a connection was made
// since the group was marked in that generation.
func (h *heads) wrote(generation uint64, group []*call, outcomes []outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if generation != h.generation {
		return
	}
	for i, c := range group {
		switch {
		case c.head == nil:
		case outcomes[i].err == nil:
			c.head.version = c.last()
		default:
			c.head.version = 0
		}
	}
}

// doubt forgets the streams of a group that failed, and has the server look
// when the group is repeated.
func (h *heads) doubt(group []*call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range group {
		c.doubted = true
		if c.head != nil {
			c.head.version = 0
		}
	}
}
