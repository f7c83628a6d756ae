//go:build linux || darwin

package postgres

import (
	"os"
	"strings"
	"sync"
)

const (
	logLimit  = 16 << 20 // two files of it are weeks of a healthy server, and no disk is filled by a sick one
	tailLimit = 2 << 10  // enough for a FATAL with its detail and hint
)

// boundedLog is a log file that moves itself to "name.1" at its limit.
type boundedLog struct {
	name  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte // last bytes written since forget
}

func openBoundedLog(name string, limit int64) (*boundedLog, error) {
	l := &boundedLog{name: name, limit: limit}
	err := l.open()
	return l, err
}

func (l *boundedLog) open() error {
	f, err := os.OpenFile(l.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write never fails: its caller drains the pipe of a server, which would stand
// still if nobody read what it says, be it only because a disk is full.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if over := len(l.tail) - tailLimit; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
	return len(p), nil
}

// rotate keeps writing to the old file if a new one cannot be had.
func (l *boundedLog) rotate() {
	old := l.file
	if os.Rename(l.name, l.name+".1") != nil || l.open() != nil {
		return
	}
	old.Close()
}

// forget begins a new tail.
func (l *boundedLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// lastWords are the last lines written since forget.
func (l *boundedLog) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	words := string(l.tail)
	if len(l.tail) == tailLimit { // cut in the middle of a line
		_, words, _ = strings.Cut(words, "\n")
	}
	return strings.TrimSpace(words)
}

func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
