package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
)

const (
	// collectEvery is how often builds collect.
	collectEvery = time.Hour
	// collectLow is how often they do while the disk is almost full. It is
	// not each time: on a disk that others have filled there may be nothing
	// to take, and looking for it costs more than a build with nothing to do.
	collectLow = time.Minute
	// lowSpace and lowShare say when that is: fewer bytes are free, or less
	// than one part in lowShare of the file system.
	lowSpace = 1 << 30
	lowShare = 20
)

// AutoCollect is [Store.Collect] for the end of a build: it does nothing when
// any collection of this store was begun within the last hour, or, if less
// than 1 GiB or 5% of the file system is free, within the last minute; and
// nothing while another one is under way. The report is then zero.
func (s *Store) AutoCollect(ctx context.Context, p Policy) (CollectReport, error) {
	if s.readOnly != nil {
		return CollectReport{}, nil
	}
	if due, err := s.collectDue(); err != nil || !due {
		return CollectReport{}, err
	}
	lock, err := tryLock(s.lockPath("collect"), flock.Exclusive)
	if errors.Is(err, flock.ErrLocked) {
		return CollectReport{}, nil
	}
	if err != nil {
		return CollectReport{}, fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	defer lock.Close()
	// Another one may have ended since we looked.
	if due, err := s.collectDue(); err != nil || !due {
		return CollectReport{}, err
	}
	return s.collect(ctx, p)
}

// stampCollect notes that a collection begins. The time of the lock file
// holds that, for the file is always there.
func (s *Store) stampCollect() error {
	if err := setMTime(s.lockPath("collect"), time.Now().UnixNano()); err != nil {
		return fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) collectDue() (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(s.lockPath("collect"), &st); err != nil {
		return false, fmt.Errorf("look when %s was last collected: %w", s.dir, err)
	}
	since := time.Since(time.Unix(st.Mtim.Unix()))
	if since < 0 || since >= collectEvery {
		return true, nil // a time to come is a clock that was put right
	}
	if since < collectLow {
		return false, nil
	}
	var space unix.Statfs_t
	if err := unix.Fstatfs(int(s.root.Fd()), &space); err != nil {
		return false, fmt.Errorf("look how full %s is: %w", s.dir, err)
	}
	return isLow(space.Bavail, space.Blocks, uint64(space.Bsize)), nil
}

// isLow takes the free blocks, all blocks, and the bytes of one.
func isLow(free, total, block uint64) bool {
	return free < total/lowShare || free*block < lowSpace
}
