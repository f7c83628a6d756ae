package courantetest

import (
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

var brokerConsume = []brokerCase{
	{"nothing there", "Take does not wait, and Consume makes the queue.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		c := consume(t, b, q)
		list, err := c.Take(t.Context(), 10)
		if len(list) != 0 || err != nil {
			t.Errorf("Take from a new queue = %v, %v, want nothing", numbers(list), err)
		}
		publish(t, b, series(1, 2, q)...)
		wantNumbers(t, take(t, c, 2), 1, 2)
	}},
	{"as many as asked for", "Take returns about max at most, and says that there is more.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		c := consume(t, b, q)
		publish(t, b, series(1, 30, q)...)
		at := int64(0)
		for at < 30 {
			<-c.Arrived()
			list, err := c.Take(t.Context(), 4)
			if err != nil || len(list) > 8 {
				t.Fatalf("Take(4) = %d messages, %v", len(list), err)
			}
			if len(list) > 0 {
				wantNumbers(t, list, at+1, at+int64(len(list)))
				at += int64(len(list))
			}
		}
	}},
	{"how deep", "Depth counts what nobody has taken and what this process has not acknowledged.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		wantDepth(t, b, q, 0)
		publish(t, b, series(1, 20, q)...)
		wantDepth(t, b, q, 20)
		c := consume(t, b, q)
		list := take(t, c, 20)
		wantDepth(t, b, q, 20)
		acknowledge(t, c, list[4])
		wantDepth(t, b, q, 15)
		c.Close()
		wantDepth(t, f.Connect(t), q, 15)
	}},
	{"discarded", "Discard removes a queue with what it holds, but none that somebody consumes.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		discard := func(when string, want bool) {
			t.Helper()
			deadline := time.After(10 * time.Second)
			for {
				gone, err := b.Discard(t.Context(), q)
				if gone == want && err == nil {
					return
				}
				select {
				case <-time.After(10 * time.Millisecond): // a consumer that has gone is counted for a moment
				case <-deadline:
					t.Fatalf("Discard of a queue %s = %v, %v, want %v", when, gone, err, want)
				}
			}
		}
		discard("that is not there", true)
		c := consume(t, f.Connect(t), q)
		discard("with a consumer", false)
		publish(t, b, series(1, 1, q)...)
		take(t, c, 1)
		c.Close()
		discard("that nobody consumes", true)
		if err := b.Publish(t.Context(), series(2, 2, q)); err == nil {
			t.Error("a message was published to a queue that was discarded")
		}
	}},
	{"given back", "What was taken and not acknowledged comes again after Close, in order and marked; what was acknowledged does not.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		publish(t, b, series(1, 20, q)...)
		first := consume(t, b, q)
		list := take(t, first, 20)
		acknowledge(t, first, list[4])  // and those before it
		acknowledge(t, first, list[4])  // again
		acknowledge(t, first, list[11]) // and those between
		acknowledge(t, first, list[7])  // long done
		first.Close()
		second := consume(t, f.Connect(t), q)
		list = take(t, second, 8)
		wantNumbers(t, list, 13, 20)
		for _, d := range list {
			if !d.Again {
				t.Errorf("event %d is not marked as delivered before", d.Event.Version)
			}
		}
		acknowledge(t, second, list[7])
		publish(t, b, series(21, 21, q)...)
		list = take(t, second, 1)
		wantNumbers(t, list, 21, 21)
		if list[0].Again {
			t.Error("event 21 is marked as delivered before")
		}
	}},
	{"given back untaken", "What had arrived and was not taken comes to the next consumer.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		publish2 := series(1, 10, q)
		first := consume(t, b, q)
		publish(t, b, publish2...)
		wantNumbers(t, take(t, first, 10)[:1], 1, 1)
		first.Close()
		wantNumbers(t, take(t, consume(t, b, q), 10), 1, 10)
	}},
	{"one at a time", "Of all consumers of a queue one gets the messages; when it goes, another one begins with what was not acknowledged.", func(t *testing.T, f BrokerFixture) {
		q := laneQueue("inventory", 0)
		b := f.Connect(t)
		active, standby := consume(t, b, q), consume(t, f.Connect(t), q)
		third := consume(t, f.Connect(t), q)
		publish(t, b, series(1, 100, q)...)
		list := take(t, active, 100)
		wantNumbers(t, list, 1, 100)
		for _, c := range []courante.Consumption{standby, third} {
			if got, err := c.Take(t.Context(), 10); len(got) > 0 || err != nil {
				t.Fatalf("a second consumer got %v, %v while the first is there", numbers(got), err)
			}
		}
		acknowledge(t, active, list[59])
		active.Close()
		list = take(t, standby, 40)
		wantNumbers(t, list, 61, 100)
		acknowledge(t, standby, list[39])
		publish(t, b, series(101, 102, q)...)
		wantNumbers(t, take(t, standby, 2), 101, 102)
	}},
	{"tags", "Tags ascend, also after the connection was made again, and what was taken before may still be acknowledged.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		c := consume(t, b, q)
		publish(t, b, series(1, 10, q)...)
		before := take(t, c, 10)
		f.Cut(t)
		after := take(t, c, 10) // they come again
		wantNumbers(t, after, 1, 10)
		last := uint64(0)
		for _, d := range append(before, after...) {
			if d.Tag <= last {
				t.Fatalf("tag %d after tag %d", d.Tag, last)
			}
			last = d.Tag
		}
		acknowledge(t, c, before[9]) // of a delivery that is no more
		acknowledge(t, c, after[4])
		c.Close()
		wantNumbers(t, take(t, consume(t, b, q), 5), 6, 10)
	}},
	{"cut", "After a cut a consumer goes on by itself, without leaving anything out.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		c := consume(t, b, q)
		at := int64(0)
		for round := range int64(4) {
			for b.Publish(t.Context(), series(round*50+1, round*50+50, q)) != nil {
				if t.Context().Err() != nil {
					return
				}
			}
			if round > 0 {
				f.Cut(t)
			}
			for _, d := range takeTo(t, c, round*50+50) {
				if n := d.Event.Version; n == at+1 {
					at = n
				} else if n > at {
					t.Fatalf("event %d came when %d was next", n, at+1)
				}
			}
		}
	}},
	{"deleted under a consumer", "A consumer whose queue was deleted makes it again.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		c := consume(t, b, q)
		publish(t, b, series(1, 5, q)...)
		acknowledge(t, c, take(t, c, 5)[4])
		f.Delete(t, q)
		// What is published while the broker still notices is lost with the queue.
		n := int64(5)
		for arrived := false; !arrived; {
			if t.Context().Err() != nil {
				t.Fatal("nothing arrives any more")
			}
			n++
			_ = b.Publish(t.Context(), series(n, n, q))
			list, err := c.Take(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			arrived = len(list) > 0
		}
		publish(t, b, series(n+1, n+10, q)...)
		list := takeTo(t, c, n+10)
		wantNumbers(t, list[len(list)-10:], n+1, n+10)
	}},
	{"handed on again and again", "Order survives any number of owners that take some and go.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		publish(t, b, series(1, 60, q)...)
		for at := int64(0); at < 60; at += 10 {
			c := consume(t, b, q)
			list := take(t, c, 20+min(0, int(40-at)))
			wantNumbers(t, list[:10], at+1, at+10)
			acknowledge(t, c, list[9])
			c.Close()
		}
	}},
}

func acknowledge(t *testing.T, c courante.Consumption, d courante.Delivery) {
	t.Helper()
	if err := c.Ack(t.Context(), d.Tag); err != nil {
		t.Fatal(err)
	}
}
