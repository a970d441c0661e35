//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"b9.build/b9/engine/internal/flock"
)

// domainPrefix begins the names of all domains of this package.
const domainPrefix = "b9-"

// maxSlots is far more than containers that run at a time.
const maxSlots = 1000

// slot is a number that no other running container of the same run directory
// has. Domains are named by it, for libvirt keeps something of every name
// that it ever saw. A dead owner's slot is free.
type slot struct {
	number int
	dir    string
	lock   *os.File
}

// newSlot reserves the lowest free number.
func newSlot(runDir string) (*slot, error) {
	dir := filepath.Join(runDir, "lxc", "slots")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for n := range maxSlots {
		f, err := flock.TryOpen(filepath.Join(dir, fmt.Sprint(n)), os.O_RDWR|os.O_CREATE, flock.Exclusive)
		if err == nil {
			return &slot{n, runDir, f}, nil
		}
		if !errors.Is(err, flock.ErrLocked) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%d containers run at a time already", maxSlots)
}

// name differs between run directories, whose slots are not the same.
func (s *slot) name() string {
	return fmt.Sprintf("%s%08x-%d", domainPrefix, crc32.ChecksumIEEE([]byte(s.dir)), s.number)
}

func (s *slot) release() { s.lock.Close() }
