package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/internal/flock"
)

// lockPatience is how long to wait for the lock on an image. A loop device
// keeps the lock until it is detached, which can be a moment after the run
// that used it, when a device scanner had opened it.
const lockPatience = time.Second

// openImage opens the image of m and locks it against other containers:
// readers share it, a writer has it alone. The lock lives as long as the
// descriptor or a loop device made from it.
func openImage(ctx context.Context, m container.Mount) (*os.File, error) {
	flags, lock := os.O_RDWR, flock.Exclusive
	if m.ReadOnly {
		flags, lock = os.O_RDONLY, flock.Shared
	}
	f, err := os.OpenFile(m.Source, flags, 0)
	if err != nil {
		return nil, err
	}
	if err = checkImage(f, m); err == nil {
		err = lockImage(ctx, f, lock)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkImage(f *os.File, m container.Mount) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("image %s is not a regular file", m.Source)
	}
	// The subtraction cannot overflow, as a sum might.
	if m.Offset >= info.Size() || m.Length > info.Size()-m.Offset {
		return fmt.Errorf("image %s has %d bytes: nothing to mount at offset %d, length %d",
			m.Source, info.Size(), m.Offset, m.Length)
	}
	return nil
}

func lockImage(ctx context.Context, f *os.File, how flock.Mode) error {
	patient, stop := context.WithTimeout(ctx, lockPatience)
	defer stop()
	err := flock.Patience{}.Wait(patient, f, how)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("image %s is in use by another container: writing needs it alone; wait for that one to end, or use a copy", f.Name())
	}
	return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
}

// pause waits for d or until the context is cancelled.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// magicSize covers every place that detectFS reads, in bytes.
const magicSize = 0x10048

// detectFS names the file system whose first bytes are given, or "". It knows
// those whose drivers are built to stand hostile images, by the places and values
// of the superblocks' magic numbers: the kernel's documentation of ext4, xfs and
// btrfs.
func detectFS(head []byte) string {
	for _, m := range []struct {
		fstype string
		offset int
		value  string
	}{
		{"xfs", 0, "XFSB"},
		{"ext4", 0x438, "\x53\xef"},
		{"btrfs", 0x10040, "_BHRfS_M"},
	} {
		if end := m.offset + len(m.value); end <= len(head) && bytes.Equal(head[m.offset:end], []byte(m.value)) {
			return m.fstype
		}
	}
	return ""
}

// imageFS is the type to mount the image of m as.
func imageFS(f *os.File, m container.Mount) (string, error) {
	switch m.FSType {
	case "":
	case "ext2", "ext3":
		// Their own drivers are gone; ext4's mounts all three.
		return "ext4", nil
	default:
		return m.FSType, nil
	}
	head := make([]byte, magicSize)
	n, err := f.ReadAt(head, m.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if t := detectFS(head[:n]); t != "" {
		return t, nil
	}
	return "", fmt.Errorf("image %s has no ext4, xfs or btrfs file system at offset %d: name its type, or the place of its partition", m.Source, m.Offset)
}
