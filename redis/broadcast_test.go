package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
)

// listener hears the log "test" until it is stopped.
type listener struct {
	mu    sync.Mutex // guards heard
	heard []int64
	stop  func()
}

func listen(t *testing.T, c *redis.Client) *listener {
	t.Helper()
	l := &listener{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // as a runtime does, only sooner
			_ = c.Hear(ctx, []string{"other", "test"}, func(log string, events []courante.Event) {
				l.mu.Lock()
				defer l.mu.Unlock()
				for i := range events {
					if log == "test" && (events[i].Version > 0 || len(l.heard) == 0) {
						l.heard = append(l.heard, events[i].Version)
					}
				}
			})
		}
	}()
	l.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(l.stop)
	return l
}

func (l *listener) list() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

func openClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	c, err := redis.Open(redis.Config{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	until(t, "connected", func() bool { return c.Check(t.Context()) == nil })
	return c
}

// What is told while a listener's connection is cut it hears when it is back;
// the place is that of the last message; a stream does not grow for ever.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	line := newSlowLine(t, server.Address())
	here, there := openClient(t, server.URL()), openClient(t, "redis://"+line.address)
	if at, err := here.Place(t.Context(), "test"); err != nil || at != (courante.Cursor{}) {
		t.Errorf("place before anything was told: %v, %v", at, err)
	}
	tell := func(v int64) {
		t.Helper()
		event := courante.Event{Log: "test", Stream: "note:a", Version: v, Type: "test.noted", Data: []byte(`{"n":1}`), Epoch: 7, Xid: 9}
		if err := here.Tell(t.Context(), "test", []courante.Event{event}, courante.Cursor{Epoch: 7, Tick: v, Position: courante.MaxPosition}); err != nil {
			t.Fatal(err)
		}
	}
	near, far := listen(t, here), listen(t, there)
	until(t, "both listen", func() bool {
		tell(0)
		return len(near.list()) > 0 && len(far.list()) > 0
	})
	want := []int64{0}
	for v := int64(1); v <= 500; v++ {
		if v%100 == 50 {
			line.cut()
		}
		tell(v)
		want = append(want, v)
	}
	for _, l := range []*listener{near, far} {
		until(t, "all is heard", func() bool { return len(l.list()) >= len(want) })
		if got := l.list(); !slices.Equal(got, want) {
			t.Errorf("heard %v; want each from 0 to 500 once, in order", got)
		}
	}
	if at, err := there.Place(t.Context(), "test"); err != nil || at.Tick != 500 || at.Position != courante.MaxPosition || at.Epoch != 7 {
		t.Errorf("place: %+v, %v; want that of the last message", at, err)
	}
	far.stop()
	for v := int64(501); v <= 3000; v++ {
		tell(v)
	}
	length := ask(t, server, "xlen", "courante:{broadcast}:test")
	var n int
	if _, err := fmt.Sscanf(length, ":%d", &n); err != nil || n < 900 || n > 1300 {
		t.Errorf("the stream has %q messages; want about 1000", length)
	}
}

// Watchers are told each change once and in order, and soon, whatever happens
// to Redis meanwhile.
func TestWatchersUnderAttack(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	line := newSlowLine(t, server.Address())
	db := newDatabase(t)
	config := redis.Config{URLs: []string{"redis://" + line.address}}
	processes := []*notes{startNotes(t, db, config), startNotes(t, db, config)}
	mustSet(t, processes[0], "a", "first")
	version := int64(1)
	change := func() {
		t.Helper()
		watchers := make([]*courante.Watcher, len(processes))
		for i, p := range processes {
			w, err := p.watch.Open(t.Context(), "a", "", 0, version)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			watchers[i] = w
		}
		for range 30 {
			n, _ := mustSet(t, processes[version%2], "a", "next")
			version++
			for _, w := range watchers {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				u, err := w.Next(ctx)
				cancel()
				if err != nil || u.Whole || u.Version != version {
					t.Fatalf("got version %d, whole: %v, %v; want change %d", u.Version, u.Whole, err, version)
				}
				if got, err := decodeNote(u.Data); err != nil || got.N != n {
					t.Fatalf("got %s, %v; want number %d", u.Data, err, n)
				}
			}
		}
	}
	for _, attack := range []struct {
		name string
		do   func()
	}{
		{"none", change},
		{"emptied", func() {
			control(t, server, "flushall")
			change()
		}},
		{"connections cut", func() {
			line.cut()
			change()
		}},
		{"stopped in its tracks", func() {
			server.Pause()
			defer server.Resume()
			change()
		}},
		{"killed, and back with nothing", func() {
			server.Kill()
			change()
			server.Start(t)
			change()
		}},
	} {
		t.Log(attack.name)
		attack.do()
	}
	for _, p := range processes {
		until(t, "Redis answers again", func() bool { return p.client.Check(t.Context()) == nil })
	}
	until(t, "changes are told over Redis again", func() bool {
		mustSet(t, processes[0], "a", "last")
		at, err := processes[1].client.Place(t.Context(), "notes")
		return !errors.Is(err, courante.ErrTransient) && at != courante.Cursor{}
	})
}
