package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
)

// TestMain makes the test binary the clinic's program when a test starts it as
// one, so that it can be killed.
func TestMain(m *testing.M) {
	if args := os.Getenv("COURANTE_TEST_CLINIC"); args != "" {
		var c clinic
		c.here.forAll.Store(true)
		c.running.forAll.Store(true)
		var list []string
		if err := json.Unmarshal([]byte(args), &list); err != nil {
			panic(err)
		}
		os.Exit(c.app().Run(context.Background(), os.Stdout, os.Stderr, list...))
	}
	os.Exit(m.Run())
}

// program starts the clinic's program, which knows a remedy for everybody, as a
// process of its own.
func (c *clinic) program(args ...string) *exec.Cmd {
	c.t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		c.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "COURANTE_TEST_CLINIC="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill is kill -9.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestRequeueIsKilled kills who requeues and who handles, one after the other
// and both, in every stage of a requeue. Whoever comes after goes on, and in the
// end each message was handled once, and those of a key in their order.
func TestRequeueIsKilled(t *testing.T) {
	const patients = 300
	c := startClinic(t)
	c.up() // this one has no remedy
	for n := range int64(3) {
		for i := range patients {
			c.arrives(fmt.Sprintf("sick%d", i), n+1)
		}
	}
	c.until("all are set aside", func() bool { return len(c.aside()) == 3*patients })
	c.stop()

	listen := []string{"up", "--json", "--listen", "127.0.0.1:0", "--log-level", "error"}
	handled := func() int {
		return patients - len(slices.DeleteFunc(c.aside(), func(p courante.Parked) bool { return p.Cause == "" }))
	}
	running := c.program(listen...)
	for _, round := range []struct {
		handled int // patients whose first message was, before the kill
		victims string
	}{{0, "operator"}, {1, "operator"}, {3, "program"}, {12, "both"}, {40, "program"}, {90, "operator"}, {150, "both"}} {
		operator := c.program("deadletter", "requeue", "--all", "--wait", "30s", "--json")
		c.until(fmt.Sprintf("%d are handled", round.handled), func() bool { return handled() >= round.handled })
		t.Logf("%d are handled when it hits: %s", handled(), round.victims)
		if round.victims != "program" {
			kill(operator)
		}
		if round.victims != "operator" {
			kill(running)
			running = c.program(listen...)
		}
		if round.victims == "program" {
			// It waits for the next program, and goes on.
			c.until("more are handled", func() bool { return handled() > round.handled })
			kill(operator)
		}
	}
	if left := patients - handled(); left > 0 {
		c.says(ExitOK, "deadletter requeue --all --wait 30s", "handled")
	}
	c.until("all is handled", func() bool { return len(c.aside()) == 0 })
	for i := range patients {
		if got := c.numbers(fmt.Sprintf("sick%d", i)); !slices.Equal(got, []int64{1, 2, 3}) {
			t.Errorf("patient sick%d was called as %v, want once each, in order", i, got)
		}
	}
}
