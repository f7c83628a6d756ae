//go:build linux || darwin

package postgres

import (
	"maps"
	"slices"
)

// reserved are the settings that the server needs for itself, with the reason.
var reserved = map[string]string{
	"port":                    "use ServerConfig.Port",
	"listen_addresses":        "the embedded server listens on 127.0.0.1 only; use ServerConfig.Port",
	"unix_socket_directories": "the socket must be in a private folder",
	"data_directory":          "use ServerConfig.Dir",
	"logging_collector":       "what PostgreSQL says goes to Dir/postgres.log",
	"log_destination":         "what PostgreSQL says goes to Dir/postgres.log",
}

// defaults suit one machine that the server shares with the program that owns
// it. Nothing here trades durability for speed: an acknowledged commit is on
// disk. The background processes keep their rhythm: idle, all of the server
// takes 10 ms of CPU time in 40 s.
var defaults = map[string]string{
	"fsync":              "on",
	"synchronous_commit": "on",

	"shared_buffers": "256MB", // holds the hot end of the log and its indexes; the rest is the file system's cache

	// A checkpoint makes the next write of every page a full copy in the WAL,
	// so they should be rare; 4 GB is replayed in well under a minute.
	"max_wal_size":       "4GB",
	"checkpoint_timeout": "15min",

	// Compressed full pages more than halve the WAL (183 MB to 78 MB in a mix
	// of appends and updates), but pglz, the one that every build has, doubles
	// the CPU time of the server, and we run out of that before disk. lz4
	// costs a tenth, where a build has it.
	"wal_compression": "off",

	"jit":              "off", // our statements take microseconds; compiling one takes milliseconds
	"random_page_cost": "1.1", // the planner's default of 4 is for spinning disks
	"timezone":         "UTC",
	"log_timezone":     "UTC",
	"log_line_prefix":  "%m [%p] ",
	"log_checkpoints":  "off", // one line each few minutes that nobody reads

	// A forgotten open transaction holds back vacuum in every table.
	"idle_in_transaction_session_timeout": "10min",

	"cluster_name": "courante", // tells our processes apart in ps
}

// parameters are the settings that the server is started with.
func (s *Server) parameters(own map[string]string) map[string]string {
	p := maps.Clone(defaults)
	maps.Copy(p, own)
	p["unix_socket_directories"] = s.socket
	p["listen_addresses"] = ""
	if s.tcp {
		p["listen_addresses"] = "127.0.0.1"
	}
	return p
}

// arguments turns settings into arguments of postgres, in a fixed order. They
// stand above postgresql.conf, so that a new version of this program runs old
// data with the settings it was tested with.
func arguments(settings map[string]string) []string {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}
