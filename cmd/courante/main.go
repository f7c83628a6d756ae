// Command courante runs the reference system and the tools for it. Run it
// without arguments for what it can do; each subcommand has a file of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

// run is main with a result, so that deferred calls happen.
func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	p := &program{stdout: os.Stdout, stderr: os.Stderr}
	go func() {
		<-signals
		cancel() // once: stop as the command says it stops
		<-signals
		p.println("Stopped at once. Nothing is lost: the next start recovers.")
		os.Exit(exitFailed) // the embedded server goes down with its owner
	}()
	return p.run(ctx, os.Args[1:])
}
