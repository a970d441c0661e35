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
	file *os.File
}

// Write implements io.Writer.
func (l *stepLog) Write(p []byte) (int, error) {
	if l.file == nil {
		f, err := newfile.Open(l.path, os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		l.file = f
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
