package app

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/courante-dev/courante/postgres"
)

type versionCommand struct{}

// Help teaches by example.
func (versionCommand) Help() string {
	return "Examples:\n\n  courante version\n  courante version --json"
}

// versionInfo says what this program is.
type versionInfo struct {
	Version    string `json:"version"` // of the module; "devel" for a build of a working tree
	Commit     string `json:"commit,omitempty"`
	Modified   bool   `json:"modified,omitempty"` // built from files that are not committed
	Go         string `json:"go"`
	PostgreSQL string `json:"postgresql"` // supported major versions
}

func version() versionInfo {
	v := versionInfo{
		Version: "devel", Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		PostgreSQL: fmt.Sprintf("%d to %d", postgres.MinServerMajor, postgres.MaxServerMajor),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// Run prints the version.
func (versionCommand) Run(p *Program) error {
	v := version()
	if p.Globals.JSON {
		return p.PrintJSON(v)
	}
	commit := v.Commit
	if commit == "" {
		commit = "unknown"
	}
	if v.Modified {
		commit += ", with changes"
	}
	_, err := fmt.Fprintf(p.Stdout, "courante %s\ncommit      %s\ngo          %s\npostgresql  %s\n", v.Version, commit, v.Go, v.PostgreSQL)
	return err
}
