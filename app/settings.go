package app

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// settings fills flags that the command line leaves open: from the environment,
// then from the YAML file. It is a kong resolver.
//
//	listen: 0.0.0.0:8080
//	payment_deadline: 5s
//	postgres_url: postgres://courante@db/courante
type settings struct {
	globals *Globals
	values  map[string]any
	loaded  bool
}

const postgresURL = "postgres_url"

// Validate has nothing to check before the file is read.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag from the file, unless the environment has
// the last word.
func (s *settings) Resolve(c *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == "config" || flag.Name == "help" {
		return nil, nil
	}
	if err := s.load(c); err != nil {
		return nil, err
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil // kong has read it already
		}
	}
	value, ok := s.values[key(flag.Name)]
	if !ok {
		return nil, nil
	}
	switch value.(type) {
	case map[string]any, []any:
		return nil, fmt.Errorf("%s in %s must be one value", key(flag.Name), s.file(c))
	}
	return fmt.Sprint(value), nil
}

// key is the name of a flag in the file: "payment_deadline" of "payment-deadline".
func key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// file is the file's name, looked up where kong has put it, or will.
func (s *settings) file(c *kong.Context) string {
	for _, flag := range c.Flags() {
		if flag.Name == "config" {
			if name, ok := c.FlagValue(flag).(string); ok && name != "" {
				return name
			}
		}
	}
	return os.Getenv("COURANTE_CONFIG")
}

// load reads the file once and refuses names that nobody knows: a setting that
// is silently ignored is worse than a start that fails.
func (s *settings) load(c *kong.Context) error {
	if s.loaded {
		return nil
	}
	s.loaded = true
	if file := s.file(c); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the settings: %w", err)
		}
		if err := yaml.Unmarshal(text, &s.values); err != nil {
			return fmt.Errorf("read the settings in %s: %w", file, err)
		}
		if err := s.check(c, file); err != nil {
			return err
		}
	}
	s.globals.PostgresURL = os.Getenv("COURANTE_POSTGRES_URL")
	if url, ok := s.values[postgresURL].(string); ok && s.globals.PostgresURL == "" {
		s.globals.PostgresURL = url
	}
	return nil
}

func (s *settings) check(c *kong.Context, file string) error {
	known := map[string]bool{postgresURL: true}
	collect(c.Model.Node, known)
	var problems []error
	for name := range s.values {
		if !known[name] {
			problems = append(problems, fmt.Errorf("%s: there is no setting %q; there are: %s", file, name, strings.Join(names(known), ", ")))
		}
	}
	return errors.Join(problems...)
}

func collect(n *kong.Node, known map[string]bool) {
	for _, flag := range n.Flags {
		// What is asked for once is no setting.
		if len(flag.Envs) > 0 && flag.Name != "config" {
			known[key(flag.Name)] = true
		}
	}
	for _, child := range n.Children {
		collect(child, known)
	}
}

func names(set map[string]bool) []string {
	var list []string
	for name := range set {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
