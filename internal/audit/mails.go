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

// checkMails checks that each mail that was sent about an order or a return is
// in the folder. That one was asked for at each end is a reaction like others.
func (a *auditor) checkMails(d *dossier) {
	if a.mails == nil {
		return
	}
	c := a.checks.mails
	for i := range d.threads {
		p := &d.threads[i].pending[notification]
		for _, id := range p.asked {
			c.LookedAt++
			file := mailFile(id)
			_, there := a.mails[file]
			if there {
				a.mails[file] = true
			}
			sent := !slices.ContainsFunc(p.effects, func(open effect) bool { return open.id == id })
			if sent && !there {
				c.wrong("mail "+file, "%s was sent and is not in the folder", id)
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
