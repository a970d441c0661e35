package overlay

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// abort ends the connection of a mount, whatever its server does: who waits for an answer has
// an error, and so has who asks from then on. The kernel does the same when the last
// descriptor of the server is closed. But a server that itself waits in the kernel, for a
// disk that does not answer, keeps its descriptors though it was killed.
//
// A mount that lies in no directory can't be unmounted. So it is put into one, where a thread
// sees it that ends with its mount namespace. That needs no other right than to mount,
// where the file system of connections (fusectl) is for root of the machine alone.
func abort(mount *os.File) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends, and its namespace with it
		done <- abortApart(int(mount.Fd()))
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("end the connection of an image: %w", err)
	}
	return nil
}

// abortApart is abort, in a mount namespace of this thread alone.
func abortApart(mount int) error {
	const dir = "/dev" // which is there, since /dev/fuse is
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return os.NewSyscallError("umount", unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH))
}
