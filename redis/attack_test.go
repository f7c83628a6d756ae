package redis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
)

// TestAttacks does to Redis what operations do to it, while two processes write
// and read. No read may fail, or wait long for Redis; none is older than readers
// have leave for; who has a token sees what he wrote; and when the attack is over
// the cache is used again.
func TestAttacks(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	line := newSlowLine(t, server.Address())
	db := newDatabase(t)
	config := redis.Config{URLs: []string{"redis://" + line.address}}
	load := startLoad(t, startNotes(t, db, config), startNotes(t, db, config))
	for _, attack := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"emptied", func(t *testing.T) {
			for range 5 {
				control(t, server, "flushall")
				load.more(t, 200)
			}
		}},
		{"stopped in its tracks", func(t *testing.T) {
			server.Pause()
			defer server.Resume()
			load.open(t, "stopped")
			load.more(t, 2000)
		}},
		{"slow", func(t *testing.T) {
			line.delay.Store(int64(200 * time.Millisecond))
			defer line.delay.Store(0)
			load.open(t, "slow")
			load.more(t, 1000)
		}},
		{"connections cut", func(t *testing.T) {
			for range 5 {
				line.cut()
				load.more(t, 100)
			}
		}},
		{"full", func(t *testing.T) {
			control(t, server, "config", "set", "maxmemory", "1")
			defer control(t, server, "config", "set", "maxmemory", "0")
			load.more(t, 2000)
		}},
		{"killed, and back with nothing", func(t *testing.T) {
			server.Kill()
			load.open(t, "killed")
			load.more(t, 1000)
			server.Start(t)
		}},
	} {
		t.Log(attack.name)
		attack.do(t)
		load.used(t, attack.name)
	}
	load.end(t)
}

// load writes and reads the same notes in all processes.
type load struct {
	processes []*notes
	reads     atomic.Int64
	slowest   atomic.Int64
	stop      context.CancelFunc
	running   sync.WaitGroup
	errs      chan error
	written   [20]written
}

// written is how far a note has come, and when.
type written struct {
	mu      sync.Mutex // guards history
	history []wrote
}

type wrote struct {
	n  int64
	at time.Time
}

func (w *written) add(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, wrote{n, time.Now()})
}

// least is what had been written last at the moment, 0 if nothing.
func (w *written) least(at time.Time) (n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.history {
		if h.at.Before(at) {
			n = h.n
		}
	}
	return n
}

// oldest is how old what a reader gets may be: the leave, and what machines that
// are busy add to it.
const oldest = 5 * time.Second

func startLoad(t *testing.T, processes ...*notes) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{processes: processes, stop: cancel, errs: make(chan error, 100)}
	for i := range l.written {
		mustSet(t, processes[0], l.id(i), "first")
		l.written[i].add(1)
		// Each note has one writer, so that it is known what was written last.
		l.running.Go(func() { l.write(ctx, i) })
	}
	for _, p := range processes {
		for range 2 {
			l.running.Go(func() { l.read(ctx, p) })
		}
	}
	return l
}

func (*load) id(i int) string { return fmt.Sprint("note", i) }

func (l *load) fail(err error) {
	select {
	case l.errs <- err:
	default:
	}
}

func (l *load) write(ctx context.Context, i int) {
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		p := l.processes[rand.IntN(len(l.processes))]
		n, token, err := p.set(ctx, l.id(i), "text")
		if err == nil {
			l.written[i].add(n)
			// Read elsewhere than it was written.
			var got noted
			if got, err = l.processes[rand.IntN(len(l.processes))].read(ctx, l.id(i), token); err == nil && got.N < n {
				err = fmt.Errorf("with a token of number %d: got %d", n, got.N)
			}
		}
		if err != nil && ctx.Err() == nil {
			l.fail(fmt.Errorf("write %s: %w", l.id(i), err))
		}
	}
}

func (l *load) read(ctx context.Context, p *notes) {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		<-pace.C
		i := rand.IntN(len(l.written))
		start := time.Now()
		least := l.written[i].least(start.Add(-oldest))
		got, err := p.read(ctx, l.id(i), "")
		took := time.Since(start)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			l.fail(fmt.Errorf("read %s: %w", l.id(i), err))
		case got.N < least:
			l.fail(fmt.Errorf("read %s: got number %d, and %d was written more than %s ago", l.id(i), got.N, least, oldest))
		}
		for slowest := l.slowest.Load(); took > time.Duration(slowest) && !l.slowest.CompareAndSwap(slowest, int64(took)); {
			slowest = l.slowest.Load()
		}
		l.reads.Add(1)
	}
}

// more returns after so many more reads.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	want := l.reads.Load() + n
	until(t, "reads go on", func() bool { return l.reads.Load() >= want })
	l.check(t)
}

// open returns when the processes leave Redis out.
func (l *load) open(t *testing.T, why string) {
	t.Helper()
	for _, p := range l.processes {
		until(t, "Redis is left out: "+why, func() bool { return p.client.Check(t.Context()) != nil })
	}
}

// used returns when all processes read from their own memory again.
func (l *load) used(t *testing.T, after string) {
	t.Helper()
	for _, p := range l.processes {
		before := p.reads(t)["l1"]
		until(t, "the cache is used again after: "+after, func() bool { return p.reads(t)["l1"] > before+20 })
	}
	l.check(t)
}

func (l *load) check(t *testing.T) {
	t.Helper()
	for {
		select {
		case err := <-l.errs:
			t.Error(err)
		default:
			if t.Failed() {
				t.FailNow()
			}
			return
		}
	}
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	l.check(t)
	// Some reads of the source of truth come after a wait for Redis; all else is
	// what a busy machine adds.
	if slowest := time.Duration(l.slowest.Load()); slowest > 2*time.Second {
		t.Errorf("the slowest of %d reads took %s", l.reads.Load(), slowest)
	}
	for i := range l.written {
		last := l.written[i].least(time.Now())
		for _, p := range l.processes {
			until(t, "all see what was written last", func() bool {
				got, err := p.read(t.Context(), l.id(i), "")
				return err == nil && got.N == last
			})
		}
	}
	for i, p := range l.processes {
		t.Logf("process %d: %v", i, p.reads(t))
	}
	t.Logf("%d reads, the slowest took %s", l.reads.Load(), time.Duration(l.slowest.Load()))
}

// control runs redis-cli's commands without it: it is not always installed.
func control(t testing.TB, server *courantetest.Redis, args ...string) {
	t.Helper()
	if answer := ask(t, server, args...); !strings.HasPrefix(answer, "+") {
		t.Fatalf("%q: %q", args, answer)
	}
}

// ask returns the beginning of the answer.
func ask(t testing.TB, server *courantetest.Redis, args ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.Join(args, " ")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4<<10)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return string(answer[:n])
}

// slowLine is a way to a server that can be slow, and be cut.
type slowLine struct {
	address string
	delay   atomic.Int64 // of what the server says
	end     func()       // for good

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newSlowLine(t *testing.T, to string) *slowLine {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowLine{address: l.Addr().String()}
	s.end = func() { l.Close(); s.cut() }
	t.Cleanup(s.end)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				conn.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn, server)
			s.mu.Unlock()
			go s.carry(server, conn, func() {})
			go s.carry(conn, server, func() { <-time.After(time.Duration(s.delay.Load())) })
		}
	}()
	return s
}

func (s *slowLine) carry(to, from net.Conn, wait func()) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		wait()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (s *slowLine) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}

// A process that slept and still believes that it carries the collection on puts
// old documents, and an old mark: nothing goes back.
func TestZombiesChangeNothing(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	p := startNotes(t, newDatabase(t), redis.Config{URLs: []string{server.URL()}})
	const collection = "test/zombie@1"
	put := func(generation, n, version int64, text string) error {
		return p.client.Put(t.Context(), collection, courante.CacheMark{Generation: generation, N: n}, time.Minute,
			[]courante.Document{{ID: "a", Version: version, Data: []byte(text)}})
	}
	get := func() string {
		d, err := p.client.Get(t.Context(), collection, "a", func(context.Context) (courante.Document, error) {
			return courante.Document{ID: "a", Version: 1, Data: []byte("source")}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Data)
	}
	// 10 after 9, and far beyond what a double holds: versions are no numbers to Lua.
	for i, version := range []int64{9, 10, 1<<53 + 1, 1<<53 + 2} {
		text := fmt.Sprint("version ", version)
		if err := put(1, int64(i+1), version, text); err != nil {
			t.Fatal(err)
		}
		until(t, text, func() bool { return get() == text })
	}
	last := get()
	if err := put(1, 5, 1<<53+1, "old document"); err != nil {
		t.Fatal(err)
	}
	if err := put(1, 4, 1<<53+1, "old mark"); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("a mark that is behind: %v; want %v", err, courante.ErrFenced)
	}
	if got := get(); got != last {
		t.Errorf("got %q; want %q", got, last)
	}
	if err := put(2, 1, 1, "next generation"); err != nil {
		t.Fatal(err)
	}
	until(t, "the next generation is read", func() bool { return get() == "next generation" })
	if err := put(1, 6, 1<<53+3, "old generation"); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("a generation that is over: %v; want %v", err, courante.ErrFenced)
	}
	if got := get(); got != "next generation" {
		t.Errorf("got %q; want that of the next generation", got)
	}
}

// Many who miss at once have the document made once.
func TestAMissIsLoadedOnce(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	p := startNotes(t, newDatabase(t), redis.Config{URLs: []string{server.URL()}})
	var loads atomic.Int64
	hold := make(chan struct{})
	var readers sync.WaitGroup
	const collection = "test/miss@1"
	for range 100 {
		readers.Go(func() {
			d, err := p.client.Get(t.Context(), collection, "a", func(context.Context) (courante.Document, error) {
				loads.Add(1)
				<-hold
				return courante.Document{ID: "a", Version: 1, Data: []byte("made")}, nil
			})
			if err != nil || string(d.Data) != "made" {
				t.Errorf("got %q, %v", d.Data, err)
			}
		})
	}
	until(t, "all have asked", func() bool { return p.reads(t)["source"] == 100 })
	close(hold)
	readers.Wait()
	if n := loads.Load(); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}

// A process that cannot reach Redis leaves it to one that can to carry the
// collection on.
func TestWhoCannotReachRedisDoesNotCarry(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	db := newDatabase(t)
	line := newSlowLine(t, server.Address())
	cut := startNotes(t, db, redis.Config{URLs: []string{"redis://" + line.address}})
	mustSet(t, cut, "a", "first")
	cut.warm(t, "a") // it carries
	line.end()
	near := startNotes(t, db, redis.Config{URLs: []string{server.URL()}})
	mustSet(t, near, "a", "second")
	until(t, "the other process carries", func() bool {
		got, err := near.read(t.Context(), "a", "")
		return err == nil && got.Text == "second" && near.reads(t)["l1"] > 0
	})
}
