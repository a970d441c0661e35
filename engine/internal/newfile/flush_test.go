package newfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirty counts the pages of the file that wait to be written to the disk, by
// cachestat(2), which Linux has since 6.5. ok is false where it is not there.
func dirty(t *testing.T, f *os.File) (pages uint64, ok bool) {
	t.Helper()
	const cachestat = 451 // on every architecture
	var all struct{ Off, Len uint64 }
	var have [5]uint64 // cached, dirty, under writeback, evicted, evicted lately
	_, _, errno := unix.Syscall6(cachestat, f.Fd(), uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&have)), 0, 0, 0)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return 0, false
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	return have[1], true
}

// TestTheDiskWorksWhileAFileIsWritten: what is written goes to the disk before the flush at
// the end. The kernel by itself would let it wait for half a minute.
func TestTheDiskWorksWhileAFileIsWritten(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(dst), &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		t.Skip("temporary files are on no disk: set TMPDIR to a directory that is", err)
	}
	fill := func(w *os.File) error {
		if _, err := w.Write(make([]byte, 8<<20)); err != nil {
			return err
		}
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			pages, ok := dirty(t, w)
			if !ok {
				t.Skip("the kernel can't count dirty pages: it needs cachestat(2)")
			}
			if pages == 0 {
				return nil
			}
			if time.Now().After(limit) {
				return errors.New("nothing goes to the disk while the file is written")
			}
		}
	}
	if err := Write(dst, 0o644, true, fill); err != nil {
		t.Error("replaced:", err)
	}
	if err := WriteNew(dst+"2", 0o644, fill); err != nil {
		t.Error("new:", err)
	}
}
