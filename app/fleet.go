package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/courante-dev/courante/internal/child"
	"github.com/courante-dev/courante/internal/rabbitserver"
	"github.com/courante-dev/courante/internal/redisserver"
	"github.com/courante-dev/courante/postgres"
)

type fleetCommand struct {
	Listen    string   `default:"127.0.0.1:8080" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where the gateway answers, by default ${default} (${env})."`
	Instances int      `default:"1" placeholder:"N" help:"Processes of each service, by default ${default}."`
	RabbitMQ  []string `name:"rabbitmq" sep:"," placeholder:"URL" env:"COURANTE_RABBITMQ_URL" help:"RabbitMQ to use; by default one is started from what is installed here (${env})."`
	Redis     []string `sep:"," placeholder:"URL" env:"COURANTE_REDIS" help:"Redis to use; by default one is started if it is installed here (${env})."`
}

// Help teaches by example.
func (fleetCommand) Help() string {
	return `Starts each service as processes of its own on this machine, a PostgreSQL, a RabbitMQ and a Redis between them, and a gateway in front: the system as it runs on many machines, to try and to break. Processes that end are started again. What it prints first are the ids, so that you can kill one and see what happens.

The settings of the services, such as deadlines, come from the environment.

Examples:

  courante fleet
  courante fleet --instances 3
  kill -9 PID                     # of any of them`
}

// Run runs the fleet until ctx ends.
func (c *fleetCommand) Run(ctx context.Context, p *Program) error {
	if c.Instances < 1 || c.Instances > 16 {
		return UsageError{fmt.Errorf("--instances %d: want 1 to 16", c.Instances)}
	}
	f, err := p.StartFleet(ctx, FleetConfig{Listen: c.Listen, Instances: c.Instances, RabbitMQ: c.RabbitMQ, Redis: c.Redis})
	if err != nil {
		return err
	}
	if p.Globals.JSON {
		err = p.PrintJSON(Ready{Ready: true, URL: f.URL(), Data: p.Globals.Data, Version: version().Version, PID: os.Getpid()})
	} else {
		fmt.Fprintln(p.Stdout)
		for _, m := range f.Processes() {
			fmt.Fprintf(p.Stdout, "  %-20s pid %-8d %s\n", m.Name, m.PID(), m.URL())
		}
		if p.app.Welcome != nil {
			other := ""
			if p.Globals.Data != "./courante-data" {
				other = " --data " + p.Globals.Data
			}
			p.app.Welcome(p.Stdout, f.URL(), other)
		}
	}
	if err == nil {
		<-ctx.Done()
	}
	if !p.Globals.JSON {
		p.Println("\nStopping the fleet; Ctrl-C again stops at once")
	}
	f.Stop()
	return err
}

// FleetConfig says what a fleet consists of.
type FleetConfig struct {
	Listen    string   // where its gateway answers
	Instances int      // processes of each service
	RabbitMQ  []string // URLs; none: it is started
	Brokers   int      // members of the RabbitMQ that is started; 0: 1
	Redis     []string // URLs; none: one is started, if it is installed

	// Between, if not nil, returns the address at which the services are told
	// that a server is: a drill stands between them. name is postgres, rabbitmq
	// (further members rabbitmq-2 and so on) or redis, and only of servers of the
	// fleet's own.
	Between func(name, network, address string) (string, error)
	Logs    string // folder for a file of each process's log; none: they go to standard error
}

// Fleet are the services of a program as processes on this machine.
type Fleet struct {
	p         *Program
	server    *postgres.Server
	rabbit    *rabbitserver.Cluster // nil if it is somebody else's
	redis     *redisserver.Server   // the same, or if there is none
	env       []string
	logs      string
	processes []*Process
	gateway   *Process
	watching  sync.WaitGroup
	cancel    context.CancelFunc
}

// StartFleet starts the services and returns when all of them answer.
func (p *Program) StartFleet(ctx context.Context, c FleetConfig) (_ *Fleet, err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &Fleet{p: p, logs: c.Logs, cancel: cancel}
	defer func() {
		if err != nil {
			f.Stop()
		}
	}()
	if c.Between == nil {
		c.Between = func(_, _, address string) (string, error) { return address, nil }
	}
	url, err := f.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	seen := url // by the services
	if f.server != nil {
		network, address := f.server.Address()
		between, err := c.Between("postgres", network, address)
		if err != nil {
			return nil, err
		}
		if between != address {
			seen = f.server.URLAt(between, p.app.Database)
		}
	}
	if len(c.RabbitMQ) == 0 {
		if err := f.startRabbit(max(1, c.Brokers)); err != nil {
			return nil, err
		}
		for i, member := range f.rabbit.Members {
			name := "rabbitmq"
			if i > 0 {
				name = fmt.Sprintf("rabbitmq-%d", i+1)
			}
			address, err := c.Between(name, "tcp", member.Address())
			if err != nil {
				return nil, err
			}
			c.RabbitMQ = append(c.RabbitMQ, "amqp://guest:guest@"+address+"/")
		}
	}
	if len(c.Redis) == 0 {
		if err := f.startRedis(); err != nil {
			return nil, err
		}
		if f.redis != nil {
			address, err := c.Between("redis", "tcp", f.redis.Address())
			if err != nil {
				return nil, err
			}
			c.Redis = []string{"redis://" + address}
		}
	}
	f.env = append(os.Environ(), "COURANTE_REDIS="+strings.Join(c.Redis, ","), "COURANTE_POSTGRES_URL="+seen, "COURANTE_RABBITMQ_URL="+strings.Join(c.RabbitMQ, ","),
		"COURANTE_DATA="+p.Globals.Data, "COURANTE_LISTEN=127.0.0.1:0")
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(c.Listen, ":0") { // any port, but the same after each start
		if c.Listen, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	upstreams := []string{"gateway", "--json", "--listen", c.Listen}
	p.Step("services: starting")
	for _, svc := range p.app.Declare() {
		var urls []string
		for i := range c.Instances {
			m := &Process{Name: svc.Name(), f: f, program: program, args: []string{"serve", svc.Name(), "--json"}}
			if c.Instances > 1 {
				m.Name = fmt.Sprintf("%s/%d", svc.Name(), i+1)
			}
			// Its address is the same after each start, so that the gateway finds it.
			address, err := freeAddress(ctx)
			if err != nil {
				return nil, err
			}
			m.args = append(m.args, "--listen", address)
			urls = append(urls, "http://"+address)
			f.processes = append(f.processes, m)
		}
		upstreams = append(upstreams, svc.Name()+"="+strings.Join(urls, ","))
	}
	f.gateway = &Process{Name: "gateway", f: f, program: program, args: upstreams}
	f.processes = append(f.processes, f.gateway)
	var starting sync.WaitGroup
	failed := make(chan error, len(f.processes))
	for _, m := range f.processes {
		starting.Go(func() { failed <- m.start(ctx) })
	}
	starting.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, err
	}
	for _, m := range f.processes {
		f.watching.Go(func() { m.keep(running) })
	}
	var programs []string
	for _, m := range f.processes {
		programs = append(programs, m.URL())
	}
	return f, writeConnection(p.Globals.Data, url, programs...)
}

func (f *Fleet) startPostgres(ctx context.Context) (url string, err error) {
	if url := f.p.Globals.PostgresURL; url != "" {
		f.p.Step("PostgreSQL: the one of COURANTE_POSTGRES_URL")
		return url, nil
	}
	dir, err := f.p.Globals.DataDir()
	if err != nil {
		return "", err
	}
	f.p.Step("PostgreSQL: starting in %s", filepath.Join(dir, "postgres"))
	f.server, err = postgres.StartServer(ctx, postgres.ServerConfig{
		Dir: filepath.Join(dir, "postgres"), Logger: f.p.Log,
		Settings: map[string]string{"max_connections": "500"}, // each process has pools of its own
	})
	if err != nil {
		return "", err
	}
	if err := f.server.CreateDatabase(ctx, f.p.app.Database); err != nil {
		return "", err
	}
	return f.server.URL(f.p.app.Database), nil
}

func (f *Fleet) startRabbit(members int) (err error) {
	dir, err := f.p.Globals.DataDir()
	if err != nil {
		return err
	}
	start := time.Now()
	f.p.Step("RabbitMQ: starting in %s", filepath.Join(dir, "rabbitmq"))
	if f.rabbit, err = rabbitserver.NewCluster(filepath.Join(dir, "rabbitmq"), members); err == nil {
		err = f.rabbit.Start()
	}
	if err != nil {
		return fmt.Errorf("no RabbitMQ: %w\nInstall it (Debian, Ubuntu: apt-get install rabbitmq-server), or name yours with --rabbitmq or COURANTE_RABBITMQ_URL", err)
	}
	f.p.Step("RabbitMQ: ready after %s", Short(time.Since(start)))
	return nil
}

// startRedis starts a Redis, if it is installed: a fleet does without.
func (f *Fleet) startRedis() (err error) {
	dir, err := f.p.Globals.DataDir()
	if err != nil {
		return err
	}
	if f.redis, err = redisserver.New(filepath.Join(dir, "redis")); errors.Is(err, exec.ErrNotFound) {
		f.p.Step("Redis: not installed, so reads go to PostgreSQL (Debian, Ubuntu: apt-get install redis-server)")
		return nil
	}
	if err == nil {
		err = f.redis.Start()
	}
	if err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	f.p.Step("Redis: ready at %s", f.redis.URL())
	return nil
}

// URL is where the gateway answers.
func (f *Fleet) URL() string { return f.gateway.URL() }

// Processes are those of the services and the gateway.
func (f *Fleet) Processes() []*Process { return slices.Clone(f.processes) }

// RabbitMQ is the fleet's own, nil if it uses somebody else's.
func (f *Fleet) RabbitMQ() *rabbitserver.Cluster { return f.rabbit }

// Redis is the fleet's own server, nil if it uses somebody else's or none.
func (f *Fleet) Redis() *redisserver.Server { return f.redis }

// Data is the folder of the fleet's own servers.
func (f *Fleet) Data() string { return f.p.Globals.Data }

// Start runs one more process of the program, which has to say as JSON when it
// is ready. The fleet does not start it again.
func (f *Fleet) Start(ctx context.Context, name string, args ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &Process{Name: name, f: f, program: program, args: args}
	if err := m.start(ctx); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

// Stop stops the gateway, then the services at once, then the servers.
func (f *Fleet) Stop() {
	f.cancel()
	f.watching.Wait()
	if f.gateway != nil {
		f.gateway.Stop()
	}
	var all sync.WaitGroup
	for _, m := range f.processes {
		all.Go(m.Stop)
	}
	all.Wait()
	if f.rabbit != nil {
		f.rabbit.Stop()
	}
	if f.redis != nil {
		f.redis.Stop()
	}
	if f.server != nil {
		if err := removeConnection(f.p.Globals.Data); err != nil {
			f.p.Log.Warn("how to connect stays written", "error", err)
		}
		limit, cancel := context.WithTimeout(context.Background(), serverEnd)
		defer cancel()
		if err := f.server.Stop(limit); err != nil {
			f.p.Log.Warn("PostgreSQL did not stop cleanly", "error", err)
		}
	}
}

// Process is one process of a fleet. It is started again when it ends.
type Process struct {
	Name    string
	f       *Fleet
	program string
	args    []string

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	exited <-chan struct{}
	url    string
}

// PID is the process's id now.
func (m *Process) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil || m.cmd.Process == nil {
		return 0
	}
	return m.cmd.Process.Pid
}

// URL is where it answers.
func (m *Process) URL() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.url
}

// Signal sends the process a signal, such as SIGKILL or SIGSTOP.
func (m *Process) Signal(s syscall.Signal) error { return syscall.Kill(m.PID(), s) }

// start starts the process and returns when it says that it is ready.
func (m *Process) start(ctx context.Context) error {
	cmd := exec.Command(m.program, m.args...)
	cmd.Env, cmd.Stderr = m.f.env, os.Stderr
	if m.f.logs != "" {
		log, err := os.OpenFile(filepath.Join(m.f.logs, strings.ReplaceAll(m.Name, "/", "-")+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer log.Close() // the process has its own
		cmd.Stderr = log
	}
	out, in := io.Pipe()
	cmd.Stdout = in
	exited, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	m.mu.Lock()
	m.cmd, m.exited = cmd, exited
	m.mu.Unlock()
	ready := make(chan Ready, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var r Ready
			if json.Unmarshal(lines.Bytes(), &r) == nil && r.Ready {
				ready <- r
			}
		}
	}()
	go func() {
		<-exited
		in.Close()
	}()
	select {
	case r := <-ready:
		m.mu.Lock()
		m.url = r.URL
		m.mu.Unlock()
		return nil
	case <-exited:
		return fmt.Errorf("%s ended before it was ready: %s", m.Name, cmd.ProcessState)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep starts the process again whenever it ends.
func (m *Process) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.ended():
		}
		m.f.p.Log.Warn("a process ended; it is started again", "process", m.Name)
		if err := m.start(ctx); err != nil && ctx.Err() == nil {
			m.f.p.Log.Error("a process could not be started; it is tried again", "process", m.Name, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

func (m *Process) ended() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exited
}

// Stop stops the process in order, and kills it if that takes too long.
func (m *Process) Stop() {
	exited := m.ended()
	if exited == nil {
		return
	}
	_ = m.Signal(syscall.SIGCONT) // a stopped one could not stop
	_ = m.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		_ = m.Signal(syscall.SIGKILL)
		<-exited
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := listen(ctx, "listen", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
