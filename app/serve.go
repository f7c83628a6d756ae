package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/rabbitmq"
)

// wires are the settings by which processes reach each other.
type wires struct {
	RabbitMQ             []string `name:"rabbitmq" sep:"," placeholder:"URL" env:"COURANTE_RABBITMQ_URL" help:"Members of the RabbitMQ cluster that carries critical events between services, such as amqp://host (${env})."`
	RabbitMQUser         string   `name:"rabbitmq-user" placeholder:"NAME" env:"COURANTE_RABBITMQ_USER" help:"Who logs in there, by default who the URL says (${env})."`
	RabbitMQPasswordFile string   `name:"rabbitmq-password-file" placeholder:"FILE" env:"COURANTE_RABBITMQ_PASSWORD_FILE" help:"File with the password; it is read again for each connection (${env})."`
}

// open connects to the broker; nil without one.
func (w *wires) open(ctx context.Context, p *Program) (*rabbitmq.Broker, error) {
	if len(w.RabbitMQ) == 0 {
		return nil, nil
	}
	b, err := rabbitmq.Open(ctx, rabbitmq.Config{URLs: w.RabbitMQ, Username: w.RabbitMQUser, PasswordFile: w.RabbitMQPasswordFile, Logger: p.Log})
	if err != nil {
		return nil, fmt.Errorf("%w\nCheck --rabbitmq (COURANTE_RABBITMQ_URL); without it, services read one another's logs", err)
	}
	p.Step("RabbitMQ: carries critical events between services")
	return b, nil
}

// role is what a process does of the program.
type role struct {
	listen, debug string
	services      []string // empty: all of them
	relays        []string // whose logs it only relays
	shared        bool     // other processes do the same
	ownDatabase   bool     // the other services' logs are in other databases
	wires         wires
	caching       caching
	upkeep        upkeep
}

type serveCommand struct {
	Contexts    []string     `arg:"" placeholder:"CONTEXT" help:"Services to run."`
	Listen      string       `default:"127.0.0.1:0" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where to answer HTTP, by default ${default}, a free port (${env})."`
	Debug       string       `name:"debug-listen" placeholder:"HOST:PORT" env:"COURANTE_DEBUG_LISTEN" help:"Where to answer Go's profiler; by default nowhere (${env})."`
	OwnDatabase bool         `env:"COURANTE_OWN_DATABASE" help:"The database holds these services alone; the others are reached over the broker only (${env})."`
	Own         kong.Plugins `embed:""` // flags of the program's own
	wires
	caching
	upkeep
}

// Help teaches by example.
func (serveCommand) Help() string {
	return `Runs one service, or several, of a fleet. Start as many processes of a service as you like, on any machine: they share its lanes, and take over when one of them goes. The other services run in processes of their own. Critical events come over RabbitMQ; without it, each service reads the others' logs in the same database.

Examples:

  COURANTE_POSTGRES_URL=postgres://me@db/main courante serve CONTEXT --rabbitmq amqp://mq
  courante serve CONTEXT OTHER --listen 0.0.0.0:8081 --redis redis://cache
  courante gateway CONTEXT=http://10.0.0.1:8081,http://10.0.0.2:8081   # one address for all

/readyz tells what is missing. With --json, one line on standard output says when it is ready, and where.`
}

// Run runs the services until ctx ends.
func (c *serveCommand) Run(ctx context.Context, p *Program) error {
	if c.OwnDatabase && len(c.RabbitMQ) == 0 {
		return UsageError{fmt.Errorf("--own-database needs --rabbitmq: nothing else brings the events of services in other databases")}
	}
	return p.runSystem(ctx, &role{
		listen: c.Listen, debug: c.Debug, services: c.Contexts, shared: true, ownDatabase: c.OwnDatabase, wires: c.wires, caching: c.caching, upkeep: c.upkeep,
	})
}

type relayCommand struct {
	Contexts []string `arg:"" placeholder:"CONTEXT" help:"Services whose logs to relay."`
	Listen   string   `default:"127.0.0.1:0" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where to answer /readyz and /metrics, by default ${default}, a free port (${env})."`
	wires
}

// Help teaches by example.
func (relayCommand) Help() string {
	return `Sends the critical events of services to RabbitMQ, from their logs, in order and without loss. The processes of a service do that by themselves; this is for relaying apart from them. However many processes relay a log, one does and the others stand by.

Example:

  COURANTE_POSTGRES_URL=postgres://me@db/main courante relay CONTEXT --rabbitmq amqp://mq`
}

// Run relays until ctx ends.
func (c *relayCommand) Run(ctx context.Context, p *Program) error {
	if len(c.RabbitMQ) == 0 {
		return UsageError{fmt.Errorf("where to? Give --rabbitmq or COURANTE_RABBITMQ_URL, such as amqp://localhost")}
	}
	return p.runSystem(ctx, &role{listen: c.Listen, relays: c.Contexts, wires: c.wires})
}

// choose divides the contexts into those that run here and the others.
func (r *role) choose(contexts []Context) (here, elsewhere []Context, err error) {
	var known []string
	for _, c := range contexts {
		name := c.Service().Name()
		known = append(known, name)
		if len(r.relays) == 0 && (len(r.services) == 0 || slices.Contains(r.services, name)) {
			here = append(here, c)
		} else {
			elsewhere = append(elsewhere, c)
		}
	}
	for _, name := range slices.Concat(r.services, r.relays) {
		if !slices.Contains(known, name) {
			return nil, nil, UsageError{fmt.Errorf("there is no service %q; there are: %s", name, strings.Join(known, ", "))}
		}
	}
	return here, elsewhere, nil
}

// config is that of the runtime which does it.
func (r *role) config(s *system) courante.Config {
	c := courante.Config{
		Database: s.db, Services: s.mounts, Foreign: s.foreign, Shared: r.shared, Version: version().Version,
		Logger: s.p.Log, Tracer: s.tel.Tracer, Meter: s.tel.Meter,
	}
	if s.broker != nil {
		c.Broker, c.Relays = s.broker, s.relays
	}
	if s.cache != nil {
		c.Cache, c.Broadcast = s.cache, s.cache
	}
	return c
}
