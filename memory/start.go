package memory

import (
	"context"

	"github.com/courante-dev/courante"
)

// Start runs the services in this process, on a database that ends with them.
// It is for examples, for trying things out, and for tests of several services
// in which time and failures do not matter. stop ends the services, and returns
// when they have ended.
func Start(services ...*courante.Service) (stop func(), err error) {
	db := New(Config{})
	cfg := courante.Config{Database: db}
	for _, s := range services {
		cfg.Services = append(cfg.Services, courante.Mount{Service: s, Store: db.Store(s.Name())})
	}
	rt, err := courante.NewRuntime(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = rt.Run(ctx) // only preparing tables can fail, and this store has none
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}
