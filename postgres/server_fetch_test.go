//go:build linux || darwin

package postgres

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBuild is an archive like those of PostgreSQL; its bin/postgres is a
// script that only tells a version.
//
//go:embed testdata/fetch.txz
var fakeBuild []byte

// repository serves the fake build under every name, as the packages of the
// real one do: in a zip, with a checksum beside it.
func repository(t *testing.T) string {
	t.Helper()
	var jar bytes.Buffer
	w := zip.NewWriter(&jar)
	f, err := w.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(fakeBuild); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			w.Write([]byte(hexSum(jar.Bytes())))
			return
		}
		w.Write(jar.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sumsOfAll gives one sum to the archives of all systems.
func sumsOfAll(sum string) map[string]string {
	sums := map[string]string{}
	for name := range archiveSums {
		sums[name] = sum
	}
	return sums
}

func TestFetchedBuildIsComplete(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache", "postgresql")
	if err := fetchBuild(t.Context(), repository(t), dir, sumsOfAll(hexSum(fakeBuild))); err != nil {
		t.Fatal(err)
	}
	b, err := inspectBinaries(t.Context(), filepath.Join(dir, "bin"))
	if err != nil || b.version != "18.3" || b.major != 18 {
		t.Errorf("inspect = %+v, %v; want version 18.3", b, err)
	}
	wantOnly(t, filepath.Dir(dir), "postgresql")
}

func TestBuildWithAnotherChecksumIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgresql")
	err := fetchBuild(t.Context(), repository(t), dir, archiveSums)
	if err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("error = %v, want one about the checksum", err)
	}
	wantOnly(t, filepath.Dir(dir))
}

func TestFailedFetchNamesTheFix(t *testing.T) {
	t.Parallel()
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	dir := t.TempDir()
	s := &Server{dir: dir, log: testLogger(t)}
	for _, config := range []ServerConfig{{Repository: empty.URL}, {Offline: true}} {
		_, err := s.fetchedBinaries(t.Context(), config, 0)
		if err == nil || !strings.Contains(err.Error(), "install PostgreSQL (18, 17, 16, 15") {
			t.Errorf("%+v: error = %v, want one that says what to install", config, err)
		}
	}
	_, err := s.fetchedBinaries(t.Context(), ServerConfig{Repository: empty.URL}, 15)
	if err == nil || !strings.Contains(err.Error(), "the data was written by PostgreSQL 15") {
		t.Errorf("data of 15: error = %v, want one that names its version", err)
	}
	wantOnly(t, filepath.Join(dir, "binaries"))
}

func wantOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}
