//go:build linux || darwin

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/courante-dev/courante/app"
)

// TestDrills holds all drills with few orders, on real servers.
func TestDrills(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	var out, said bytes.Buffer
	env := []string{"COURANTE_PAYMENT_DEADLINE=4s", "COURANTE_CARRIER_DEADLINE=4s"} // those who never answer take as long
	c := command(t, dataDir(t), env, "drill", "--json", "--orders", "40", "--patience", "90s")
	c.Stdout, c.Stderr = &out, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// Sooner than the package's time is over, which would not say which drill hangs.
	late := time.AfterFunc(12*time.Minute, func() { _ = c.Process.Signal(os.Interrupt) })
	defer late.Stop()
	err := c.Wait()
	held := 0
	for lines := json.NewDecoder(&out); lines.More(); held++ {
		var r drilled
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: before %.1f s, recovered in %.1f s, took %.0f s, verify %s", r.Drill, r.Before, r.Recovered, r.Seconds, r.Verify)
		if !r.OK {
			t.Errorf("%s: %s: %s", r.Drill, r.Verify, r.Problem)
		}
	}
	if want := len(drills()); held != want || c.ProcessState.ExitCode() != app.ExitOK {
		t.Errorf("%d drills were held, want %d; %v\n%s", held, want, err, said.String())
	}
}

func TestDrillsAreNamed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, d := range drills() {
		if seen[d.name] || d.broken == "" {
			t.Errorf("drill %q is there twice, or does not say what it breaks", d.name)
		}
		seen[d.name] = true
	}
	for _, c := range []drillCommand{
		{Names: []string{"set-fire"}, Orders: 100, Instances: 1},
		{Orders: 1, Instances: 1},
		{Orders: 100},
	} {
		if _, err := c.chosen(); err == nil {
			t.Errorf("%+v was understood", c)
		}
	}
}
