package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/internal/link"
	"github.com/courante-dev/courante/internal/rabbitserver"
)

// drill is one thing that is broken. It returns when it is whole again, as far
// as that is not the system's own business.
type drill struct {
	name, broken string
	brokers      int // members of RabbitMQ; 0 is 1
	run          func(context.Context, *drilledFleet) error
}

// drilledFleet is a fleet with a link to each of its servers.
type drilledFleet struct {
	*app.Fleet
	links map[string]*link.Link
}

// rabbit is the fleet's RabbitMQ, or the first member of its cluster.
func (f *drilledFleet) rabbit() *rabbitserver.Server { return f.RabbitMQ().Members[0] }

// between puts a link between the services and a server.
func (f *drilledFleet) between(name, network, address string) (string, error) {
	l, err := link.New(network, address)
	if err != nil {
		return "", err
	}
	f.links[name] = l
	return l.Address(), nil
}

// network breaks the link to one server after another.
func network(fault link.Fault) func(context.Context, *drilledFleet) error {
	return func(ctx context.Context, f *drilledFleet) error {
		for _, name := range []string{"postgres", "rabbitmq", "redis"} {
			f.links[name].Set(fault)
			err := wait(ctx, 5*time.Second)
			f.links[name].Set(link.Fault{})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// pausedFor is longer than the leases of lanes last.
const pausedFor = 8 * time.Second

// drills are all there are, in the order in which they are held.
func drills() []drill {
	var all []drill
	for _, svc := range declaredShop() {
		name := svc.Name()
		all = append(all, drill{
			name: "kill-" + name, broken: "kill -9 of every process of " + name,
			run: func(_ context.Context, f *drilledFleet) error { return signalAll(f, name, syscall.SIGKILL) },
		})
	}
	return append(all,
		drill{name: "kill-gateway", broken: "kill -9 of the gateway", run: func(_ context.Context, f *drilledFleet) error {
			return signalAll(f, "gateway", syscall.SIGKILL)
		}},
		drill{name: "rolling-restart", broken: "SIGTERM to one process after another", run: rollingRestart},
		drill{name: "pause", broken: "one process of each service sleeps for 8 s, longer than its leases last, and wakes up", run: pause},
		drill{name: "two-relays", broken: "another two relays send every log", run: twoRelays},
		drill{name: "kill-postgres", broken: "kill -9 of PostgreSQL", run: func(_ context.Context, f *drilledFleet) error {
			return killPostgres(f.Data())
		}},
		drill{name: "kill-rabbitmq", broken: "kill -9 of RabbitMQ, started again after 2 s", run: func(ctx context.Context, f *drilledFleet) error {
			f.rabbit().Kill()
			return errors.Join(wait(ctx, 2*time.Second), f.rabbit().Start())
		}},
		drill{name: "pause-rabbitmq", broken: "RabbitMQ does not move for 8 s, with its connections open", run: func(ctx context.Context, f *drilledFleet) error {
			f.rabbit().Pause()
			defer f.rabbit().Resume()
			return wait(ctx, pausedFor)
		}},
		drill{name: "rabbitmq-memory", broken: "RabbitMQ's memory alarm for 5 s: it takes no messages", run: memoryAlarm},
		drill{
			name: "kill-rabbitmq-leader", broken: "kill -9 of whoever leads the most queues of three RabbitMQs, started again after 10 s",
			brokers: 3, run: killLeader,
		},
		drill{name: "delete-queues", broken: "every queue of RabbitMQ is deleted by hand", run: deleteQueues},
		drill{name: "kill-redis", broken: "kill -9 of Redis, started again after 2 s", run: func(ctx context.Context, f *drilledFleet) error {
			f.Redis().Kill()
			return errors.Join(wait(ctx, 2*time.Second), f.Redis().Start())
		}},
		drill{name: "pause-redis", broken: "Redis does not move for 8 s, with its connections open", run: func(ctx context.Context, f *drilledFleet) error {
			f.Redis().Pause()
			defer f.Redis().Resume()
			return wait(ctx, pausedFor)
		}},
		drill{name: "latency", broken: "300 ms more to PostgreSQL, then RabbitMQ, then Redis, in each direction, for 5 s each", run: network(link.Fault{Delay: 300 * time.Millisecond})},
		drill{name: "cut", broken: "no connections to PostgreSQL, then RabbitMQ, then Redis, for 5 s each", run: network(link.Fault{Cut: true})},
		drill{name: "half-open", broken: "connections to PostgreSQL, then RabbitMQ, then Redis stay open, and nothing arrives, for 5 s each", run: network(link.Fault{Silent: true})},
		drill{name: "slow-close", broken: "kill -9 of every process, of which the servers hear 5 s later: their transactions and queues stay taken", run: slowClose},
		drill{name: "flush-redis", broken: "FLUSHALL of Redis", run: func(_ context.Context, f *drilledFleet) error { return f.Redis().FlushAll() }},
	)
}

// of are the processes of a service.
func of(f *drilledFleet, service string) (found []*app.Process) {
	for _, m := range f.Processes() {
		if m.Name == service || strings.HasPrefix(m.Name, service+"/") {
			found = append(found, m)
		}
	}
	return found
}

func signalAll(f *drilledFleet, service string, s syscall.Signal) (err error) {
	for _, m := range of(f, service) {
		err = errors.Join(err, m.Signal(s))
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// slowClose ends connections of which the other side hears late.
func slowClose(ctx context.Context, f *drilledFleet) error {
	for _, l := range f.links {
		l.Set(link.Fault{SlowClose: 5 * time.Second})
		defer l.Set(link.Fault{})
	}
	for _, svc := range declaredShop() {
		if err := signalAll(f, svc.Name(), syscall.SIGKILL); err != nil { // its servers hear late of it
			return err
		}
	}
	return wait(ctx, 6*time.Second)
}

// rollingRestart stops each process in order, which the fleet starts again, and
// goes on to the next when that one answers.
func rollingRestart(ctx context.Context, f *drilledFleet) error {
	for _, m := range f.Processes() {
		old := m.PID()
		if err := m.Signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop %s: %w", m.Name, err)
		}
		for m.PID() == old || call(ctx, "GET", m.URL()+"/readyz", "", nil) != nil {
			if err := wait(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause stops the first process of each service in its tracks.
func pause(ctx context.Context, f *drilledFleet) (err error) {
	for _, svc := range declaredShop() {
		m := of(f, svc.Name())[0]
		err = errors.Join(err, m.Signal(syscall.SIGSTOP))
		defer func() { err = errors.Join(err, m.Signal(syscall.SIGCONT)) }()
	}
	return errors.Join(err, wait(ctx, pausedFor))
}

// twoRelays runs more relays beside those of the services, for a while.
func twoRelays(ctx context.Context, f *drilledFleet) error {
	args := []string{"relay", "--json", "--listen", "127.0.0.1:0"}
	for _, svc := range declaredShop() {
		args = append(args, svc.Name())
	}
	for range 2 {
		m, err := f.Start(ctx, "relay", args...)
		if err != nil {
			return err
		}
		defer m.Stop()
	}
	return wait(ctx, 5*time.Second)
}

func memoryAlarm(ctx context.Context, f *drilledFleet) error {
	control := func(limit string) error {
		out, err := f.rabbit().Control("set_vm_memory_high_watermark", "absolute", limit)
		if err != nil {
			return fmt.Errorf("rabbitmqctl: %w: %s", err, out)
		}
		return nil
	}
	if err := control("1MB"); err != nil {
		return err
	}
	return errors.Join(wait(ctx, 5*time.Second), control("1GB"))
}

// killLeader is longer without a member than the others need to go on, so what
// recovers does so without it.
func killLeader(ctx context.Context, f *drilledFleet) error {
	leader, err := f.RabbitMQ().Leader("/lane/")
	if err != nil {
		return err
	}
	leader.Kill()
	return errors.Join(wait(ctx, 10*time.Second), leader.Start())
}

func deleteQueues(_ context.Context, f *drilledFleet) error {
	out, err := f.rabbit().Control("list_queues", "--silent", "name")
	if err != nil {
		return fmt.Errorf("rabbitmqctl: %w: %s", err, out)
	}
	for name := range strings.FieldsSeq(out) {
		if name == "name" {
			continue
		}
		if out, err := f.rabbit().Control("delete_queue", name); err != nil {
			return fmt.Errorf("rabbitmqctl: %w: %s", err, out)
		}
	}
	return nil
}
