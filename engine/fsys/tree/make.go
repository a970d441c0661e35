package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// Epoch is the earliest time b9 writes into a file system it makes. It is one
// second after 1970 because e2fsprogs takes 0 for "use the clock".
const Epoch = 1

// FixedTime returns t in seconds, at least the epoch. The zero Time is the epoch.
func FixedTime(t time.Time) int64 {
	if t.IsZero() || t.Unix() < Epoch {
		return Epoch
	}
	return t.Unix()
}

// MakeFile creates (or truncates) the file at path and lets fill write it. When
// fill fails and the file was not there before, the file is removed.
func MakeFile(path string, fill func(*os.File) error) (err error) {
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil && errors.Is(statErr, fs.ErrNotExist) {
			os.Remove(path)
		}
	}()
	return fill(f)
}

// CheckEvery reports the context's error; long loops call it once an item.
func CheckEvery(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
		return nil
	}
}
