//go:build linux || darwin

package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/courantetest"
)

// composed is deploy/compose.yaml, as far as it says anything.
type composed struct {
	Name     string
	Service  any `yaml:"x-service"`
	Services map[string]composedService
	Volumes  map[string]any
	Secrets  map[string]struct{ File string }
}

type composedService struct {
	Image           string
	Build           *struct{ Context, Dockerfile string }
	Restart         string
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	ReadOnly        bool          `yaml:"read_only"`
	Tmpfs           []string
	Hostname        string
	Command         []string
	Environment     map[string]string
	Secrets         []yaml.Node
	Volumes         []string
	Ports           []string
	Healthcheck     *struct {
		Test              []string
		Interval, Timeout time.Duration
		StartPeriod       time.Duration `yaml:"start_period"`
		Retries           int
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
}

func readComposed(t *testing.T) composed {
	t.Helper()
	text, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c composed
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestComposeIsComplete checks deploy/compose.yaml without Docker: it says only
// what its readers know, images are pinned, everything is looked after, and what
// it names is there.
func TestComposeIsComplete(t *testing.T) {
	t.Parallel()
	c := readComposed(t)
	var contexts []string
	for _, svc := range theShop().Declare() {
		contexts = append(contexts, svc.Name())
		if s, there := c.Services[svc.Name()]; !there || !slices.Equal(s.Command, []string{"serve", svc.Name()}) {
			t.Errorf("service %s is not there, or not served", svc.Name())
		}
	}
	pinned := regexp.MustCompile(`^[a-z]+:[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z]+)?$`)
	secrets := map[string]bool{}
	for name, s := range c.Services {
		if s.Build == nil && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q has no exact version", name, s.Image)
		}
		if s.Healthcheck == nil || len(s.Healthcheck.Test) < 2 || s.Restart != "unless-stopped" {
			t.Errorf("%s has no health check, or is not started again", name)
		}
		for other, on := range s.DependsOn {
			if c.Services[other].Healthcheck == nil || on.Condition != "service_healthy" {
				t.Errorf("%s does not wait until %s is healthy", name, other)
			}
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, there := c.Volumes[volume]; !there {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		for _, n := range s.Secrets {
			long := struct{ Source, Target string }{Source: n.Value}
			if n.Kind == yaml.MappingNode {
				if err := n.Decode(&long); err != nil {
					t.Fatal(err)
				}
			}
			secrets[long.Source] = true
			if c.Secrets[long.Source].File != "secrets/"+long.Source {
				t.Errorf("%s: secret %s is at %q", name, long.Source, c.Secrets[long.Source].File)
			}
		}
		for key, value := range s.Environment {
			if strings.Contains(value, "/run/secrets/") && !secretNamed(s, strings.TrimPrefix(value, "/run/secrets/")) {
				t.Errorf("%s: %s=%s is not mounted", name, key, value)
			}
			if strings.Contains(strings.ToLower(key), "password") && !strings.HasSuffix(key, "_FILE") {
				t.Errorf("%s: %s holds a password", name, key)
			}
		}
		if s.Build == nil {
			continue
		}
		// Requests and what has begun get 10 s each, telemetry 3.
		if s.StopGracePeriod < 30*time.Second {
			t.Errorf("%s is killed after %v", name, s.StopGracePeriod)
		}
		help, _, code := runHere(t, s.Command[0], "--help")
		if code != app.ExitOK {
			t.Errorf("%s: there is no command %s", name, s.Command[0])
		}
		for key := range s.Environment {
			if strings.HasPrefix(key, "COURANTE_") && key != "COURANTE_POSTGRES_URL" && !strings.Contains(help, "$"+key) && !strings.Contains(help, key) {
				t.Errorf("%s: %s does not know %s", name, s.Command[0], key)
			}
		}
		if _, port, _ := strings.Cut(s.Environment["COURANTE_LISTEN"], ":"); !strings.Contains(strings.Join(s.Healthcheck.Test, " "), "127.0.0.1:"+port+"/readyz") {
			t.Errorf("%s listens at port %s, and its health is asked elsewhere", name, port)
		}
		for _, file := range []string{s.Build.Dockerfile, "go.mod", "cmd/courante"} {
			if _, err := os.Stat(filepath.Join("../../deploy", s.Build.Context, file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, name := range contexts {
		if !slices.Contains(c.Services["gateway"].Command, name+"=http://"+name+":8080") {
			t.Errorf("the gateway does not know %s", name)
		}
	}

	made := filepath.Join(t.TempDir(), "deploy")
	if err := os.MkdirAll(made, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../deploy/make-secrets")
	if err == nil {
		err = os.WriteFile(filepath.Join(made, "make-secrets"), script, 0o755)
	}
	for range 2 { // the second time nothing changes
		before, _ := os.ReadFile(filepath.Join(made, "secrets", "pgpass"))
		if out, failed := exec.Command(filepath.Join(made, "make-secrets")).CombinedOutput(); err != nil || failed != nil {
			t.Fatalf("make-secrets: %v %v\n%s", err, failed, out)
		}
		after, err := os.ReadFile(filepath.Join(made, "secrets", "pgpass"))
		if err != nil || len(before) > 0 && !bytes.Equal(before, after) {
			t.Errorf("make-secrets changed a password: %v", err)
		}
	}
	for name := range c.Secrets {
		if info, err := os.Stat(filepath.Join(made, "secrets", name)); err != nil || info.Size() == 0 {
			t.Errorf("make-secrets does not make %s: %v", name, err)
		}
		if !secrets[name] {
			t.Errorf("nobody uses secret %s", name)
		}
	}

	docker, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	if len(version) != 2 || !bytes.Contains(docker, []byte("FROM golang:"+string(version[1])+"-alpine")) {
		t.Errorf("the image is not built with the Go of go.mod, %s", version)
	}
}

func secretNamed(s composedService, name string) bool {
	return slices.ContainsFunc(s.Secrets, func(n yaml.Node) bool { return n.Value == name })
}

// TestComposedProcesses starts the processes of deploy/compose.yaml here, with
// their commands and settings, on servers of this machine.
func TestComposedProcesses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a fleet")
	}
	c := readComposed(t)
	passwords := t.TempDir()
	for _, name := range []string{"pgpass", "rabbitmq_password", "redis_password"} {
		if err := os.WriteFile(filepath.Join(passwords, name), []byte("guest\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here := map[string]string{
		"COURANTE_LISTEN":       "127.0.0.1:0",
		"COURANTE_POSTGRES_URL": courantetest.PostgresConfig(t).URL,
		"COURANTE_RABBITMQ_URL": strings.Replace(courantetest.RabbitMQHost(t), "guest:guest@", "", 1),
		// A user that is there, whose password is in the file.
		"COURANTE_RABBITMQ_USER": "guest",
	}
	redis := courantetest.StartRedis(t)
	if out, err := exec.Command("redis-cli", "-u", redis.URL(), "config", "set", "requirepass", "guest").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "OK" {
		t.Fatalf("set a password: %v %s", err, out)
	}
	here["COURANTE_REDIS"] = redis.URL()
	start := func(name string, args []string) *process {
		var env []string
		for key, value := range c.Services[name].Environment {
			if other, there := here[key]; there {
				value = other
			}
			env = append(env, key+"="+strings.Replace(value, "/run/secrets", passwords, 1))
		}
		return startUp(t, command(t, dataDir(t), env, append(slices.Clone(args), "--json")...))
	}
	upstreams := c.Services["gateway"].Command
	for name, s := range c.Services {
		if s.Build != nil && name != "gateway" {
			p := start(name, s.Command)
			p.until(name+" is ready", p.isReady, func() any { return p.text("/readyz") })
			for i := range upstreams {
				upstreams[i] = strings.Replace(upstreams[i], "http://"+name+":8080", p.ready.URL, 1)
			}
		}
	}
	// One that only relays stands by, and is ready all the same.
	relay := start("ordering", []string{"relay", "ordering", "payment"})
	relay.until("the relay is ready", relay.isReady, func() any { return relay.text("/readyz") })
	gateway := start("gateway", upstreams)
	gateway.until("the gateway is ready", gateway.isReady, func() any { return gateway.text("/readyz") })
	if status, answer := gateway.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 100}`); status != http.StatusCreated {
		t.Fatalf("receive: %d %v", status, answer)
	}
	gateway.place("first", "tok_ok")
	gateway.becomes("first", "confirmed")
	gateway.place("second", "tok_declined")
	gateway.becomes("second", "cancelled")
}
