package sparse

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Shared returns the runs [from, to), in order, at which a and b are the same blocks
// of one file system, as a reflink leaves them: their bytes are equal without a look
// at them. Where there is no such sharing it returns none, at next to no cost.
//
// The kernel tells of blocks on the disk (Documentation/filesystems/fiemap.rst), so
// what was written and waits in memory is flushed first. A run of which the bytes do
// not follow from the block alone counts as not shared: compressed, packed into
// metadata, not written yet.
func Shared(a, b descriptor) ([][2]int64, error) {
	if same, err := oneDevice(a, b); err != nil || !same {
		return nil, err
	}
	first, err := mapped(a, 0)
	if err != nil || !first.shares() {
		return nil, err
	}
	if first, err = mapped(a, fiemapSync); err != nil {
		return nil, err
	}
	second, err := mapped(b, fiemapSync)
	if err != nil {
		return nil, err
	}
	return common(first, second), nil
}

// descriptor is an open file.
type descriptor interface{ Fd() uintptr }

// oneDevice reports whether two files lie in one file system.
func oneDevice(a, b descriptor) (bool, error) {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(int(a.Fd()), &x), unix.Fstat(int(b.Fd()), &y)); err != nil {
		return false, err
	}
	return x.Dev == y.Dev, nil
}

// What is known of struct fiemap and struct fiemap_extent.
const (
	fiemapIoctl = 0xc020660b
	fiemapHead  = 32 // bytes
	fiemapSize  = 56 // bytes of an extent
	fiemapCount = 512
	fiemapSync  = 1

	extentLast   = 0x1
	extentShared = 0x2000
	// extentOdd are the flags of extents whose bytes are not those of the block:
	// unknown, delayed, encoded, encrypted, unaligned, inline, tail, unwritten.
	extentOdd = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
)

// mapping is where a file's runs lie on the disk, in the file's order.
type mapping []placed

type placed struct {
	logical, physical, length int64 // bytes
	flags                     uint32
}

func (m mapping) shares() bool {
	for _, e := range m {
		if e.flags&extentShared != 0 {
			return true
		}
	}
	return false
}

// mapped asks for all of a file. A file system that does not tell has no extents.
func mapped(f descriptor, flags uint32) (mapping, error) {
	var m mapping
	for off, last := uint64(0), false; !last; {
		b, err := fiemap(f, off, flags)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EBADR) {
			return nil, nil
		}
		if err != nil {
			return nil, os.NewSyscallError("FS_IOC_FIEMAP", err)
		}
		le := binary.NativeEndian
		n := int(le.Uint32(b[20:]))
		for i := range n {
			x := b[fiemapHead+i*fiemapSize:]
			m = append(m, placed{int64(le.Uint64(x)), int64(le.Uint64(x[8:])), int64(le.Uint64(x[16:])), le.Uint32(x[40:])})
			off = le.Uint64(x) + le.Uint64(x[16:])
			last = le.Uint32(x[40:])&extentLast != 0
		}
		last = last || n == 0
	}
	return m, nil
}

// fiemap returns struct fiemap with the extents from off on.
func fiemap(f descriptor, off uint64, flags uint32) ([]byte, error) {
	b, le := make([]byte, fiemapHead+fiemapCount*fiemapSize), binary.NativeEndian
	le.PutUint64(b, off)
	le.PutUint64(b[8:], ^uint64(0)-off)
	le.PutUint32(b[16:], flags)
	le.PutUint32(b[24:], fiemapCount)
	for {
		_, _, err := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemapIoctl, uintptr(unsafe.Pointer(&b[0])))
		if err != unix.EINTR && err != 0 {
			return nil, err
		}
		if err == 0 {
			return b, nil
		}
	}
}

// common are the runs of two files that have one place.
func common(a, b mapping) (runs [][2]int64) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		x, y := a[i], b[j]
		from, to := max(x.logical, y.logical), min(x.logical+x.length, y.logical+y.length)
		if from < to && (x.flags|y.flags)&extentOdd == 0 && x.physical-x.logical == y.physical-y.logical {
			if n := len(runs); n > 0 && runs[n-1][1] == from {
				runs[n-1][1] = to
			} else {
				runs = append(runs, [2]int64{from, to})
			}
		}
		if x.logical+x.length < y.logical+y.length {
			i++
		} else {
			j++
		}
	}
	return runs
}
