package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/store"
)

const logFile = "log"

// stepLog is the file that a step's log goes to. Most steps print nothing: it is made
// when something is written.
type stepLog struct {
	path string
	name string // of the step, in the store
	file *os.File
}

// nameFile says beside a log that is being written of which step it is.
const nameFile = "step"

// Running is the path of the log of the step of that name which a process runs now. It is
// "" when none does, or the step has printed nothing.
func Running(st *store.Store, name string) (string, error) {
	dirs, err := st.Working()
	for _, dir := range dirs {
		if text, err := os.ReadFile(filepath.Join(dir, nameFile)); err == nil && string(text) == name {
			return filepath.Join(dir, logFile), nil
		}
	}
	return "", err
}

// Write implements io.Writer.
func (l *stepLog) Write(p []byte) (int, error) {
	if l.file == nil {
		f, err := newfile.Open(l.path, os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		l.file = f
		// Without it nobody can follow the step, which hinders nothing else.
		_ = newfile.Write(filepath.Join(filepath.Dir(l.path), nameFile), 0o600, false, func(f *os.File) error {
			_, err := f.WriteString(l.name)
			return err
		})
	}
	return l.file.Write(p)
}

// Close ends the log.
func (l *stepLog) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// adoptLog puts the log into the store. That of all steps which printed nothing is one
// object, adopted once.
func (t *attempt) adoptLog(ctx context.Context) (*store.Object, error) {
	st, last := t.engine.cfg.Store, &t.engine.emptyLog
	if t.log.file == nil {
		if o := last.Load(); o != nil && st.Has(*o) {
			return o, nil
		}
		if err := t.log.exist(); err != nil {
			return nil, err
		}
	}
	o, err := st.Adopt(ctx, filepath.Join(t.scratch.Dir(), logFile))
	if err == nil && t.log.file == nil {
		last.Store(&o)
	}
	return &o, err
}

// exist makes the file if nothing was written: who looks at a failed step finds it.
func (l *stepLog) exist() error {
	if l.file != nil {
		return nil
	}
	f, err := newfile.Open(l.path, os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
