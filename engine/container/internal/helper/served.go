package helper

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// served is an image that this process serves the file system of. When the last user
// of the mount is gone, the kernel ends the connection; when this process dies, too.
type served struct {
	image  *os.File
	server container.Served
	over   chan struct{} // closed when nobody is left who could wait
	hung   chan bool     // gets whether the connection was ended
}

// servedLimit is how long no access to an image that is served may end while there are some: as
// long as a slow disk may take, with room to spare.
const servedLimit = 2 * time.Minute

// watch ends the connection of a mount whose server gets no answer from the image: who waits
// in the container has an error then, and can be killed, which a process can't that waits for an
// answer which the server has begun. Where that is not allowed, in a user namespace, they wait.
func (f *served) watch(connection uint32, limit time.Duration) {
	const ticks = 8 // counted, for the whole machine may have stood still meanwhile
	tick := time.NewTicker(limit / ticks)
	defer tick.Stop()
	var last int64
	for still := 0; ; {
		select {
		case <-f.over:
			f.hung <- false
			return
		case <-tick.C:
		}
		begun, ended := f.server.Progress()
		if begun == ended || ended != last {
			last, still = ended, 0
		} else if still++; still > ticks {
			f.hung <- endConnection(connection) == nil
			return
		}
	}
}

// connectionOf is the number of a mount's connection, which nobody is asked for.
func connectionOf(mount *os.File) (uint32, error) {
	var st unix.Statx_t
	err := unix.Statx(int(mount.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return st.Dev_minor, os.NewSyscallError("statx", err)
}

// endConnection ends a connection of FUSE, in the kernel's file system of these.
func endConnection(number uint32) error {
	all, err := newMount("fusectl", nil, nil, 0, false)
	if err != nil {
		return err
	}
	defer all.Close()
	fd, err := unix.Openat(int(all.Fd()), fmt.Sprintf("%d/abort", number), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return os.NewSyscallError("write", err)
}

// fuseDevice is how a process gets the requests of a mount.
const fuseDevice = "/dev/fuse"

// serve mounts an image, which it takes over, through FUSE.
func (s *stage) serve(image *os.File, m container.Mount) (*os.File, error) {
	tree, err := s.startServer(image, m)
	if err != nil {
		image.Close()
	}
	return tree, err
}

// largestRequest is that of a served mount, in bytes.
const largestRequest = 128 << 10

func (s *stage) startServer(image *os.File, m container.Mount) (*os.File, error) {
	part, err := section(image, m)
	if err != nil {
		return nil, err
	}
	dev, err := unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the kernel has no driver for %s, and none of FUSE (%s: %w): load either (modprobe %[1]s, modprobe fuse), or share a directory with what it holds", m.FSType, fuseDevice, err)
	}
	tree, err := newMount("fuse", []setting{
		{"source", "b9"}, {"subtype", m.FSType}, {"fd", strconv.Itoa(dev)}, {"rootmode", "40000"}, {"user_id", "0"}, {"group_id", "0"},
		{key: "default_permissions"}, {key: "allow_other"}, {"max_read", strconv.Itoa(largestRequest)},
	}, nil, unix.MOUNT_ATTR_NOATIME, m.ReadOnly)
	if err != nil {
		unix.Close(dev)
		return nil, err
	}
	connection, err := connectionOf(tree)
	if err != nil {
		unix.Close(dev)
		tree.Close()
		return nil, err
	}
	server, err := s.known.Serve(dev, image, m.Offset, part.Size(), m.FSType, m.ReadOnly, largestRequest)
	if err != nil {
		tree.Close()
		return nil, err
	}
	f := &served{image, server, make(chan struct{}), make(chan bool, 1)}
	go f.watch(connection, cmp.Or(s.servedLimit, servedLimit))
	s.served = append(s.served, f)
	return tree, nil
}

// release waits until nobody uses the mount, when all its data is in the image.
func (f *served) release() error {
	close(f.over)
	if <-f.hung {
		return fmt.Errorf("image %s: its file gave no answer for %v, and was given up: look whether its disk is well (dmesg)", f.image.Name(), servedLimit)
	}
	err := f.server.Close(loopPatience)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("image %s is still mounted %v after its container ended", f.image.Name(), loopPatience)
	}
	if err != nil {
		err = fmt.Errorf("image %s: %w", f.image.Name(), err)
	}
	return errors.Join(err, f.image.Close())
}
