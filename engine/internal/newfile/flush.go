package newfile

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// writebackEvery is the time between two requests to write what is dirty. A small
// file is complete before the first.
const writebackEvery = 20 * time.Millisecond

// flushed lets fill write the file, and flushes it. The disk works meanwhile:
// the kernel by itself lets dirty pages wait for half a minute, so that the flush
// at the end would begin with everything still to be done. A page that is written
// to again after it went out goes out twice; of what b9 writes those are tables.
func flushed(w *os.File, fill func(*os.File) error) error {
	stop := StartWriteback(w)
	err := fill(w)
	stop()
	if err != nil {
		return err
	}
	return w.Sync()
}

// StartWriteback has what is written to the file go to the disk as it comes, until
// stop is called, which the caller must do before it closes the file. It promises nothing
// and reports no error: whoever wants the content on the disk flushes it then, which
// has little left to do.
func StartWriteback(w *os.File) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(writebackEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if Writeback(w, 0, 0) != nil {
					return // this file system has no such call
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		group.Wait()
	}
}

// Writeback begins to write n bytes from the offset at on to the disk, all from there on
// where n is 0, and waits for none of them.
func Writeback(w *os.File, at, n int64) error {
	return unix.SyncFileRange(int(w.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}
