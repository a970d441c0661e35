package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

const (
	loopAttempts = 200              // to get a device that nobody else takes first
	loopPatience = 30 * time.Second // for a file system to let go of its device
)

// loop is a loop device with an image behind it. The kernel detaches the
// image when the last user of the device closes it, be it by dying.
type loop struct {
	dev   *os.File
	image *os.File
}

// attachLoop attaches the part of image that m names. On success it owns image.
func attachLoop(ctx context.Context, image *os.File, m container.Mount) (*loop, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no loop devices here: %w", err)
	}
	defer ctl.Close()
	config := loopConfig(image, m)
	for range loopAttempts {
		dev, err := freeLoop(ctl, &config)
		if err == nil {
			return &loop{dev, image}, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
			return nil, fmt.Errorf("loop device for %s: %w", m.Source, err)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("loop device for %s: others took every free one; try again with fewer containers at once", m.Source)
}

// loopConfig asks for direct I/O, so that what a container writes is not kept
// in memory twice. The kernel leaves that out where the image's place does not
// allow it.
func loopConfig(image *os.File, m container.Mount) unix.LoopConfig {
	c := unix.LoopConfig{Fd: uint32(image.Fd())}
	c.Info.Offset = uint64(m.Offset)
	c.Info.Sizelimit = uint64(m.Length)
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	if m.ReadOnly {
		c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], m.Source)
	return c
}

// freeLoop configures a device that was free when it was asked for. The error
// is EBUSY when another process was quicker.
func freeLoop(ctl *os.File, config *unix.LoopConfig) (*os.File, error) {
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("no free one: %w", err)
	}
	dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	err = unix.IoctlLoopConfigure(int(dev.Fd()), config)
	if errors.Is(err, unix.EINVAL) && config.Info.Flags&unix.LO_FLAGS_DIRECT_IO != 0 {
		buffered := *config
		buffered.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &buffered)
	}
	if err != nil {
		dev.Close()
		return nil, os.NewSyscallError("LOOP_CONFIGURE", err)
	}
	return dev, nil
}

// release waits until no file system uses the device, when all its data is in
// the image, and detaches it.
func (l *loop) release() error {
	err := l.waitUnused()
	return errors.Join(err, l.dev.Close(), l.image.Close())
}

func (l *loop) waitUnused() error {
	deadline := time.Now().Add(loopPatience)
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		// A mounted file system has its device exclusively.
		fd, err := unix.Open(l.dev.Name(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "open", Path: l.dev.Name(), Err: err}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("image %s is still mounted %v after its container ended", l.image.Name(), loopPatience)
		}
		time.Sleep(delay)
	}
}
