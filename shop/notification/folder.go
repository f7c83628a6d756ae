package notification

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder is a Mailer that puts each mail into a file of its own, ready for
// whatever takes mails from there. A file appears complete or not at all. It is
// not flushed to the disk before Send returns: a mail of the last seconds
// before a power cut may be lost, which is what a folder of files is worth.
type Folder struct {
	dir string
}

// NewFolder makes the folder if it is not there.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the mail folder: %w", err)
	}
	return &Folder{dir}, nil
}

// Send writes the mail to a file whose name is derived from the key, so that
// the same key twice is one file.
func (f *Folder) Send(_ context.Context, key string, m Mail) error {
	sum := sha256.Sum256([]byte(key))
	id := hex.EncodeToString(sum[:16])
	path := filepath.Join(f.dir, id+".eml")
	if _, err := os.Lstat(path); err == nil {
		return nil // sent before, its outcome was lost
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the mail: %w", err)
	}
	tmp, err := os.CreateTemp(f.dir, "."+id+"-*")
	if err != nil {
		return fmt.Errorf("begin the mail: %w", err)
	}
	_, err = tmp.Write(m.Message(id))
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path) // of two at once the later wins, with the same bytes
	}
	if err != nil {
		return fmt.Errorf("write the mail: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
