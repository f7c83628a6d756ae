package courante_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/postgres"
)

// The domain of these tests: a press prints the pages of books, those of a book
// one after the other, each by a call to a machine outside that takes 5 ms. A
// binder, in another process, puts them on a heap.

type ordered struct {
	Pages int `json:"pages"`
}
type printed struct {
	Book string `json:"book"`
	Page int    `json:"page"`
}
type piled struct {
	Page int `json:"page"`
}

func (ordered) EventType() string { return "press.ordered" }
func (printed) EventType() string { return "press.printed" }
func (piled) EventType() string   { return "binder.piled" }

// sheet is a page to be printed.
type sheet struct {
	Book string `json:"book"`
	Page int    `json:"page"`
	Of   int    `json:"of"`
}

// machine is the party outside. It remembers keys, as payment providers do.
type machine struct {
	takes time.Duration // a call

	mu    sync.Mutex
	seen  map[string]bool // by key
	pages map[string]int  // by book: the last one that was printed
	wrong []string
}

func (m *machine) print(ctx context.Context, key string, s sheet) (struct{}, error) {
	select {
	case <-time.After(m.takes):
	case <-ctx.Done():
		return struct{}{}, courante.Unknown(ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[key] {
		return struct{}{}, nil
	}
	m.seen[key] = true
	if s.Page != m.pages[s.Book]+1 {
		m.wrong = append(m.wrong, fmt.Sprintf("page %d of %s after page %d", s.Page, s.Book, m.pages[s.Book]))
	}
	m.pages[s.Book] = s.Page
	return struct{}{}, nil
}

func (m *machine) printed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.seen)
}

// works is one program that declares the domain.
type works struct {
	press, binder *courante.Service
	order         *courante.Command
	orderOf       func(id string, pages int) courante.Call
	books         *courante.Entity[ordered]
	heaps         *courante.Entity[heap]
}

// heap is what the binder has of a book.
type heap struct {
	Pages int
	Wrong bool // a page came twice or before its turn
}

func newWorks(m *machine) *works {
	w := &works{press: courante.NewService("press"), binder: courante.NewService("binder")}
	w.press.Emits(courante.Critical, ordered{}, printed{})
	w.books = courante.Sourced(w.press, "book",
		courante.Evolve(func(b *ordered, e ordered) { *b = e }),
		courante.Evolve(func(*ordered, printed) {}))
	asks := []string{"print"}
	var printing *courante.Effect[sheet, struct{}]
	printing = courante.NewEffect(w.press, courante.EffectSpec[sheet, struct{}]{
		Step:   courante.Step{Name: "take the page", Outcomes: []courante.Outcome{{Emits: courante.Types(printed{}), Asks: asks}, {Emits: courante.Types(printed{})}}},
		Effect: "print", UntilAnswered: true, Timeout: time.Second, Perform: m.print,
		Then: func(d *courante.Decision, id string, s sheet, _ struct{}) error {
			if s.Page == s.Of {
				w.books.Load(d, id).Emit(printed{id, s.Page})
				return nil
			}
			w.books.Load(d, id).Emit(printed{id, s.Page}, printing.Ask(sheet{id, s.Page + 1, s.Of}))
			return nil
		},
	})
	w.order = courante.NewCommand(w.press, courante.Step{Name: "order", Outcomes: []courante.Outcome{{Emits: courante.Types(ordered{}), Asks: asks}}})
	w.orderOf = func(id string, pages int) courante.Call {
		return courante.Call{Keys: []courante.Key{w.books.Key(id)}, Do: func(d *courante.Decision) error {
			w.books.Load(d, id).Emit(ordered{pages}, printing.Ask(sheet{id, 1, pages}))
			return nil
		}}
	}

	w.binder.Emits(courante.Private, piled{})
	w.heaps = courante.Sourced(w.binder, "heap", courante.Evolve(func(h *heap, e piled) {
		h.Pages++
		h.Wrong = h.Wrong || e.Page != h.Pages
	}))
	courante.On(w.binder, courante.Reaction[printed]{
		Step: courante.Step{Name: "pile", Outcomes: []courante.Outcome{{Emits: courante.Types(piled{})}}},
		Keys: func(p printed) []courante.Key { return []courante.Key{w.heaps.Key(p.Book)} },
		Do: func(d *courante.Decision, p printed) error {
			w.heaps.Load(d, p.Book).Emit(piled{p.Page})
			return nil
		},
	})
	return w
}

// printery is the domain as a fleet over a broker.
type printery struct {
	machine       *machine
	broker        *memory.Broker
	press, binder postgres.Config
}

func newPrintery(t testing.TB, takes time.Duration) *printery {
	return &printery{
		machine: &machine{takes: takes, seen: map[string]bool{}, pages: map[string]int{}}, broker: memory.NewBroker(memory.BrokerConfig{}),
		press: courantetest.PostgresConfig(t), binder: courantetest.PostgresConfig(t),
	}
}

type printer struct {
	*works
	reader *sdkmetric.ManualReader
	stop   func()
}

// start runs one process of the service. It makes one call at a time: a
// party outside may allow no more to each of its clients.
func (p *printery) start(t testing.TB, service string) *printer {
	t.Helper()
	out := &printer{works: newWorks(p.machine), reader: sdkmetric.NewManualReader()}
	here, there, config := out.press, out.binder, p.press
	if service == "binder" {
		here, there, config = there, here, p.binder
	}
	db, err := postgres.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Lanes: 4, Performers: 1, Broker: p.broker.Connect(), Shared: true,
		Services: []courante.Mount{{Service: here, Store: courantetest.PostgresStore(t, db, service)}},
		Foreign:  []courante.Foreign{{Service: there}},
		Meter:    sdkmetric.NewMeterProvider(sdkmetric.WithReader(out.reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	out.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(out.stop)
	return out
}

func (p *printery) order(t testing.TB, from *printer, books, pages int) {
	t.Helper()
	for i := range books {
		if _, err := from.order.Do(t.Context(), from.orderOf(fmt.Sprint("book-", i), pages)); err != nil {
			t.Fatal(err)
		}
	}
}

// wait waits until that many pages are printed.
func (p *printery) wait(t testing.TB, pages int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); p.machine.printed() < pages; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute %d of %d pages are printed", p.machine.printed(), pages)
		}
	}
}

// Processes of a service that calls a slow party outside come and go while
// books are printed: each page is printed once and in its turn, and piled once
// and in its turn.
func TestProcessesShareCallsWhileTheyComeAndGo(t *testing.T) {
	t.Parallel()
	p := newPrintery(t, 5*time.Millisecond)
	binder, first := p.start(t, "binder"), p.start(t, "press")
	const books, pages = 24, 30
	p.order(t, first, books, pages)
	p.wait(t, 100)
	second, third := p.start(t, "press"), p.start(t, "press")
	p.wait(t, 250)
	first.stop()
	fourth := p.start(t, "press")
	p.wait(t, 400)
	second.stop()
	third.stop()
	p.wait(t, books*pages)
	for i := range books {
		id := fmt.Sprint("book-", i)
		var h heap
		until(t, "the heap of "+id, func() bool {
			var err error
			h, _, err = binder.heaps.Get(t.Context(), id)
			return err == nil && h.Pages >= pages
		})
		if h.Wrong || h.Pages != pages {
			t.Errorf("the heap of %s has %d pages, want %d in order: %t", id, h.Pages, pages, !h.Wrong)
		}
	}
	if n := p.machine.printed(); n != books*pages || len(p.machine.wrong) > 0 {
		t.Errorf("%d pages were printed, want %d; out of turn: %v", n, books*pages, p.machine.wrong)
	}
	fourth.stop()
}

// The signal to scale by says how long a process takes for the calls that wait.
func TestSecondsToDrainCountWhatWaits(t *testing.T) {
	t.Parallel()
	p := newPrintery(t, 5*time.Millisecond)
	press := p.start(t, "press")
	const drain = "courante.subscriber.drain{service=press,work=effects}"
	until(t, "nothing to drain", func() bool { v, there := scrape(t, press.reader)[drain]; return there && v == 0 })
	p.order(t, press, 200, 5)
	p.wait(t, 20)
	// 1,000 calls of at least 5 ms, one at a time, are 5 s at least; what is not
	// asked for yet is not counted, so it says at least a fifth of what is left.
	got := scrape(t, press.reader)
	if least := float64(1000-p.machine.printed()) / 5 * 0.005; got[drain] < least*0.8 || got[drain] > 60 {
		t.Errorf("it takes %.3f s to drain, want at least %.3f", got[drain], least)
	}
	if n := got["courante.effect.limit{service=press}"]; n != 1 {
		t.Errorf("the process makes %v calls at once at most, want 1", n)
	}
	p.wait(t, 1000)
	until(t, "everything is drained", func() bool { return scrape(t, press.reader)[drain] == 0 })

	// Who handles events takes time for those that wait in its queues.
	binder := p.start(t, "binder")
	const events = "courante.subscriber.drain{service=binder,work=events}"
	until(t, "the binder piles", func() bool { h, _, err := binder.heaps.Get(t.Context(), "book-0"); return err == nil && h.Pages == 5 })
	until(t, "there is nothing left", func() bool { v, there := scrape(t, binder.reader)[events]; return there && v == 0 })
}

// BenchmarkScaleOut prints pages with more and more processes of the press. Each
// makes one call at a time, so that with calls of 5 ms one process prints 200
// pages a second at the very most.
func BenchmarkScaleOut(b *testing.B) {
	for _, takes := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond} {
		for _, processes := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("call=%v/processes=%d", takes, processes), func(b *testing.B) {
				for range b.N {
					printPages(b, takes, processes)
				}
			})
		}
	}
}

func printPages(b *testing.B, takes time.Duration, processes int) {
	b.StopTimer()
	p := newPrintery(b, takes)
	binder := p.start(b, "binder")
	var list []*printer
	for range processes {
		list = append(list, p.start(b, "press"))
	}
	const books, pages = 64, 12
	order := func(name string, pages int) {
		for i := range books {
			if _, err := list[0].order.Do(b.Context(), list[0].orderOf(fmt.Sprint(name, i), pages)); err != nil {
				b.Fatal(err)
			}
		}
	}
	order("first-", 1) // until each process has its share
	p.wait(b, books)
	order("book-", pages)
	from := p.machine.printed()
	b.StartTimer()
	start := time.Now()
	p.wait(b, books+books*pages)
	b.StopTimer()
	b.ReportMetric(float64(books+books*pages-from)/time.Since(start).Seconds(), "pages/s")
	if len(p.machine.wrong) > 0 {
		b.Error(strings.Join(p.machine.wrong, "\n"))
	}
	for _, s := range append(list, binder) {
		s.stop()
	}
}
