package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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

// recognise decides for every image which file system it is mounted as, and which of
// them are only read whatever the specification says.
func recognise(mounts []container.Mount, known container.FileSystems) ([]container.Mount, error) {
	mounts = slices.Clone(mounts)
	for i := range mounts {
		m := &mounts[i]
		if m.Kind != container.Image {
			continue
		}
		if err := recogniseImage(m, known); err != nil {
			return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
	}
	return mounts, nil
}

func recogniseImage(m *container.Mount, known container.FileSystems) error {
	f, err := os.Open(m.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkImage(f, *m); err != nil {
		return err
	}
	if m.FSType, err = imageFS(f, *m, known); err != nil {
		return err
	}
	m.ReadOnly = m.ReadOnly || m.FSType == "iso9660" || m.FSType == "squashfs" || m.FSType == "erofs"
	if m.Subvolume != "" && m.FSType != "btrfs" {
		return fmt.Errorf("subvolume %q: image %s holds %s, and only btrfs has subvolumes", m.Subvolume, m.Source, m.FSType)
	}
	return nil
}

// imageFS is the type to mount the image of m as.
func imageFS(f *os.File, m container.Mount, known container.FileSystems) (string, error) {
	kind := m.FSType
	if kind == "" && known != nil {
		part, err := section(f, m)
		if err != nil {
			return "", err
		}
		if kind, err = known.Probe(part, part.Size()); err != nil {
			return "", err
		}
	}
	switch kind {
	case "ext2", "ext3":
		return "ext4", nil // their own drivers are gone; ext4's mounts all three
	case "":
		return "", fmt.Errorf("image %s has no file system that is known at offset %d: name its type, or the place of its partition", m.Source, m.Offset)
	case "swap":
		return "", fmt.Errorf("image %s holds swap space, which has no files to mount", m.Source)
	}
	return kind, nil
}

// section is the part of an image that a mount names.
func section(f *os.File, m container.Mount) (*io.SectionReader, error) {
	length := m.Length
	if length == 0 {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		length = info.Size() - m.Offset
	}
	return io.NewSectionReader(f, m.Offset, length), nil
}
