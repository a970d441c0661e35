package helper

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/userfs"
)

// served is an image that this process serves the file system of. When the last user
// of the mount is gone, the kernel ends the connection; when this process dies, too.
type served struct {
	image  *os.File
	server *userfs.Server
}

// fuseDevice is how a process gets the requests of a mount.
const fuseDevice = "/dev/fuse"

// serve mounts an image, which it takes over, through FUSE.
func (s *stage) serve(image *os.File, m container.Mount) (*os.File, error) {
	tree, server, err := startServer(image, m)
	if err != nil {
		image.Close()
		return nil, err
	}
	s.served = append(s.served, &served{image, server})
	return tree, nil
}

func startServer(image *os.File, m container.Mount) (*os.File, *userfs.Server, error) {
	part, err := section(image, m)
	if err != nil {
		return nil, nil, err
	}
	dev, err := unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("the kernel has no driver for %s, and none of FUSE (%s: %w): load either (modprobe %[1]s, modprobe fuse), or share a directory with what it holds", m.FSType, fuseDevice, err)
	}
	tree, err := newMount("fuse", []setting{
		{"source", "b9"}, {"subtype", m.FSType}, {"fd", strconv.Itoa(dev)}, {"rootmode", "40000"}, {"user_id", "0"}, {"group_id", "0"},
		{key: "default_permissions"}, {key: "allow_other"}, {"max_read", strconv.Itoa(userfs.MaxRead)},
	}, nil, unix.MOUNT_ATTR_NOATIME, m.ReadOnly)
	if err != nil {
		unix.Close(dev)
		return nil, nil, err
	}
	server, err := userfs.Start(dev, userfs.Image{File: image, Offset: m.Offset, Length: part.Size(), Kind: m.FSType, ReadOnly: m.ReadOnly})
	if err != nil {
		tree.Close()
		return nil, nil, err
	}
	return tree, server, nil
}

// release waits until nobody uses the mount, when all its data is in the image.
func (f *served) release() error {
	err := f.server.Close(loopPatience)
	if errors.Is(err, userfs.ErrMounted) {
		return fmt.Errorf("image %s is still mounted %v after its container ended", f.image.Name(), loopPatience)
	}
	if err != nil {
		err = fmt.Errorf("image %s: %w", f.image.Name(), err)
	}
	return errors.Join(err, f.image.Close())
}
