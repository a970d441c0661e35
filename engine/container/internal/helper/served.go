package helper

import (
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
	server interface{ Close(time.Duration) error }
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
	server, err := s.known.Serve(dev, image, m.Offset, part.Size(), m.FSType, m.ReadOnly, largestRequest)
	if err != nil {
		tree.Close()
		return nil, err
	}
	s.served = append(s.served, &served{image, server})
	return tree, nil
}

// release waits until nobody uses the mount, when all its data is in the image.
func (f *served) release() error {
	err := f.server.Close(loopPatience)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("image %s is still mounted %v after its container ended", f.image.Name(), loopPatience)
	}
	if err != nil {
		err = fmt.Errorf("image %s: %w", f.image.Name(), err)
	}
	return errors.Join(err, f.image.Close())
}
