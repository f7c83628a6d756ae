package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mails are the files in the folder of the mails, by name; true once an order
// has explained it.
type mails map[string]bool

const mailSuffix = ".eml"

// mailFile is the file of the mail that was sent under a key.
func mailFile(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + mailSuffix
}

func (a *auditor) readMails(context.Context) error {
	c := a.checks.mails
	if a.cfg.Mails == "" {
		c.Skipped = "no folder of mails to look at"
		return nil
	}
	files, err := os.ReadDir(a.cfg.Mails)
	if errors.Is(err, fs.ErrNotExist) {
		c.Skipped = "there is no folder " + a.cfg.Mails
		return nil
	}
	if err != nil {
		return err
	}
	a.mails = mails{}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), mailSuffix) {
			a.mails[f.Name()] = false
		}
	}
	return nil
}

// checkMails checks that an order that has ended has its mail, and one only.
func (a *auditor) checkMails(d *dossier) {
	c := a.checks.mails
	if a.mails == nil {
		return
	}
	n := streamIndex(notification)
	for i := range d.events[n] {
		e := &d.events[n][i]
		if e.notes == nil {
			continue
		}
		for _, r := range e.notes.Ask {
			c.LookedAt++
			file := mailFile(r.ID)
			_, there := a.mails[file]
			if there {
				a.mails[file] = true
			}
			sent := !slices.ContainsFunc(d.pending[n].effects, func(open effect) bool { return open.id == r.ID })
			if sent && !there {
				c.wrong("mail "+file, "it was sent for %s and is not in the folder", e.id)
			}
		}
	}
}

// checkOtherMails reports the files that no order explains. One that is newer
// than our snapshot is of an order that has gone on meanwhile.
func (a *auditor) checkOtherMails(context.Context) error {
	for _, file := range slices.Sorted(maps.Keys(a.mails)) {
		if a.mails[file] {
			continue
		}
		info, err := os.Stat(filepath.Join(a.cfg.Mails, file))
		if err == nil && !a.cfg.Stopped && info.ModTime().After(a.now) {
			continue
		}
		a.checks.mails.LookedAt++
		a.checks.mails.wrong("mail "+file, "nobody asked for it")
	}
	return nil
}
