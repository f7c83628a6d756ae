package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/internal/telemetry"
)

type gatewayCommand struct {
	Upstreams []string `arg:"" name:"upstream" placeholder:"NAME=URL[,URL...]" help:"A service and where its processes answer."`
	Listen    string   `default:"127.0.0.1:8080" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where to answer HTTP, by default ${default} (${env})."`
}

// Help teaches by example.
func (gatewayCommand) Help() string {
	return `Sends each request to the service whose path it is. Which paths a service has it says itself, in its /openapi.json; /docs here describes all of them. A path that several services have is the first one's. Requests go to the processes of a service in turn, and past one that is gone.

Example:

  courante gateway ordering=http://10.0.0.1:8081,http://10.0.0.2:8081 inventory=http://10.0.0.3:8081`
}

// Run answers until ctx ends.
func (c *gatewayCommand) Run(ctx context.Context, p *Program) (err error) {
	upstreams, err := parseUpstreams(c.Upstreams)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, "listen", c.Listen)
	if err != nil {
		return err
	}
	tel, err := telemetry.Start(ctx, telemetry.Config{Service: p.app.Name + "-gateway", Version: version().Version})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), telemetryEnd)
		defer cancel()
		if lost := tel.Shutdown(limit); lost != nil {
			p.Log.Warn("telemetry was lost", "error", lost)
		}
	}()
	proxy, err := gateway.NewProxy(gateway.Config{
		Title: p.app.Title, Version: version().Version, Metrics: tel.Metrics(), Logger: p.Log, Tracer: tel.Tracer, Meter: tel.Meter,
	}, upstreams...)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := proxy.Server(listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- server.Serve(gateway.Problems(listener)) }()
	learning, stop := context.WithCancel(ctx)
	defer stop()
	go proxy.Learn(learning)
	at := "http://" + listener.Addr().String()
	if p.Globals.JSON {
		err = p.PrintJSON(Ready{Ready: true, URL: at, Version: version().Version, PID: os.Getpid()})
	} else {
		_, err = fmt.Fprintf(p.Stdout, "The gateway answers at %s; /readyz tells which services it has found\n", at)
	}
	if err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-served:
		return fmt.Errorf("the HTTP server ended: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestsEnd)
	defer cancel()
	if err = server.Shutdown(limit); errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	return err
}

func parseUpstreams(args []string) ([]gateway.Upstream, error) {
	var list []gateway.Upstream
	for _, arg := range args {
		name, addresses, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, UsageError{fmt.Errorf("%q: write NAME=URL, such as ordering=http://localhost:8081", arg)}
		}
		u := gateway.Upstream{Name: name}
		for _, address := range strings.Split(addresses, ",") {
			at, err := url.Parse(address)
			if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
				return nil, UsageError{fmt.Errorf("%q of %s is no address; write it like http://localhost:8081", address, name)}
			}
			u.URLs = append(u.URLs, at)
		}
		list = append(list, u)
	}
	return list, nil
}
