package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
	"b9.build/b9/engine/internal/sparse"
)

func TestChangedObjectsAreHashedInPartOnXFS(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func TestChangedObjectsAreHashedInPartOnBtrfs(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.btrfs", "-q")
}

func TestChangedObjectsAreHashedWhereNothingIsShared(t *testing.T) {
	inOwnMounts(t, "changed", 700<<20, "mkfs.ext4", "-q", "-F")
}

// adoptChangedObjects takes in what forks of objects became, by every way to change a file,
// and holds its digest against that of all its bytes.
func adoptChangedObjects(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("changed")
	if err != nil {
		return err
	}
	defer c.Close()
	seed := seedtest.Seed()
	fmt.Printf("%s=%d\n", seedtest.Variable, seed)
	w := &changer{s: s, dir: c.Dir(), random: rand.New(rand.NewPCG(seed, 4))}
	if err := w.begin(); err != nil {
		return err
	}
	rounds := longer(20, 200)
	if !w.shares {
		rounds = 10 // what the disk has room for
	}
	for n := range rounds {
		if err := w.round(n); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
	}
	r, err := s.Verify(context.Background(), false)
	if err != nil || len(r.Corrupt) > 0 {
		return fmt.Errorf("verification finds %v, %v", r.Corrupt, err)
	}
	return nil
}

// changer changes forks of objects.
type changer struct {
	s      *Store
	dir    string
	random *rand.Rand
	shares bool // the file system shares blocks
	bases  []Object
}

// begin makes the first objects: full of data, so that what is read shows.
func (w *changer) begin() error {
	for range 2 {
		path := filepath.Join(w.dir, "base")
		data := make([]byte, 2*leavesFrom+5000)
		rand.NewChaCha8([32]byte{byte(w.random.Uint32())}).Read(data)
		clear(data[1<<20 : 3<<20])
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		o, err := w.s.Adopt(context.Background(), path)
		if err != nil {
			return err
		}
		w.bases = append(w.bases, o)
	}
	var space unix.Statfs_t
	err := unix.Statfs(w.dir, &space)
	w.shares = space.Type != unix.EXT4_SUPER_MAGIC
	return err
}

// round forks an object, changes the fork and takes it in.
func (w *changer) round(n int) error {
	base := w.bases[w.random.IntN(len(w.bases))]
	path := filepath.Join(w.dir, "fork")
	if err := w.s.Fork(context.Background(), base.Digest, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var written int64
	for range w.random.IntN(6) {
		n, err := w.change(f)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		written += n
	}
	if err := f.Close(); err != nil {
		return err
	}
	if n%5 == 4 { // as a store of old has none
		if err := os.RemoveAll(filepath.Join(w.s.Dir(), leavesDir)); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(w.s.Dir(), leavesDir), 0o700); err != nil {
			return err
		}
	}
	of := []Digest{w.bases[0].Digest, w.bases[1].Digest, base.Digest}
	cheap := w.shares && !slices.ContainsFunc(of, func(d Digest) bool { return !w.s.hasLeaves(d) })
	want, _, err := digest.Path(context.Background(), path, 2)
	if err != nil {
		return err
	}
	before := readSoFar()
	o, err := w.s.Adopt(context.Background(), path, of...)
	if err != nil {
		return err
	}
	read := readSoFar() - before
	if o.Digest != want {
		return fmt.Errorf("the digest is %s, want %s", o.Digest, want)
	}
	// The tables, the blocks that were written to, and what lies at their edges.
	if most := written + 1<<20; cheap && read > most {
		return fmt.Errorf("%d bytes were read where %d were written", read, written)
	}
	if l, ok := w.s.Leaves(o.Digest); ok && l.Digest() != want || !ok && o.Size >= leavesFrom {
		return fmt.Errorf("the table of %s is not its own", o)
	}
	if _, ok := w.s.Leaves(base.Digest); !ok && w.shares {
		return fmt.Errorf("the object that was forked has no table")
	}
	if w.bases = append(w.bases, o); len(w.bases) > 6 {
		w.bases = slices.Delete(w.bases, 2, 3)
	}
	return nil
}

// change changes a file in one way, and returns how many bytes have to be read for that.
func (w *changer) change(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	at := w.random.Int64N(size)
	n := min(1+w.random.Int64N(200_000), size-at)
	data := bytes.Repeat([]byte{byte(w.random.Uint32())}, int(n))
	touched := n + 2*digest.BlockSize
	switch w.random.IntN(8) {
	case 0:
		_, err = f.WriteAt(data, at)
	case 1:
		err = writeMapped(f, at, data)
	case 2:
		err = sparse.Punch(f, at, n) // what a discard in the guest becomes
	case 3:
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, n)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
	case 4: // the same bytes again: the digest does not change by that
		if _, err = f.ReadAt(data, at); err == nil {
			_, err = f.WriteAt(data, at)
		}
	case 5:
		err = f.Truncate(size + w.random.Int64N(1<<20))
	case 6:
		err = f.Truncate(max(leavesFrom, size-w.random.Int64N(1<<20)))
	case 7: // a part of another object, at another place, as a disk is put together
		touched, err = w.graft(f, size)
	}
	return touched, err
}

// graft clones a part of an object into f.
func (w *changer) graft(f *os.File, size int64) (int64, error) {
	in, err := os.Open(w.s.Path(w.bases[1].Digest))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	unit := []int64{digest.BlockSize, 4096}[w.random.IntN(2)]
	n := int64(1 << 20)
	from, to := w.random.Int64N(leavesFrom/unit)*unit, w.random.Int64N((size-n)/unit)*unit
	err = unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{Src_fd: int64(in.Fd()), Src_offset: uint64(from), Src_length: uint64(n), Dest_offset: uint64(to)})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	if unit == 4096 {
		return n + 2*digest.BlockSize, err // at such a distance no block is another's
	}
	return 2 * digest.BlockSize, err
}

// writeMapped writes through a mapping, and does not flush it.
func writeMapped(f *os.File, at int64, data []byte) error {
	page := int64(os.Getpagesize())
	start := at / page * page
	m, err := unix.Mmap(int(f.Fd()), start, int(at-start)+len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[at-start:], data)
	return unix.Munmap(m)
}

// readSoFar is how many bytes this process has read by system calls.
func readSoFar() (n int64) {
	data, _ := os.ReadFile("/proc/self/io")
	_, _ = fmt.Sscanf(string(data), "rchar: %d", &n)
	return n
}

// An object that shares blocks with another one was last read when that was.
func TestWhatWasNotReadIsAsOldAsItsBase(t *testing.T) {
	inOwnMounts(t, "age", 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func ageOfForks(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("age")
	if err != nil {
		return err
	}
	defer c.Close()
	path, random, ctx := filepath.Join(c.Dir(), "f"), rand.New(rand.NewPCG(1, 1)), context.Background()
	if err := sparseBig(path, random, 50); err != nil {
		return err
	}
	o, err := s.Adopt(ctx, path)
	if err != nil {
		return err
	}
	if err := s.Fork(ctx, o.Digest, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(randomBlock(f, random, 9), f.Close()); err != nil {
		return err
	}
	changed, err := s.Adopt(ctx, path, o.Digest)
	if err != nil {
		return err
	}
	first, _ := s.checks.get(o.Digest, true)
	second, ok := s.checks.get(changed.Digest, true)
	if !ok || first.hashed == 0 || second.hashed != first.hashed || changed == o {
		return fmt.Errorf("the fork was hashed at %d, its base at %d", second.hashed, first.hashed)
	}
	info, err := os.Stat(s.shard(leavesDir, changed.Digest))
	if err != nil || info.Size() > int64(diffHead+2*diffEntry) {
		return fmt.Errorf("the table of a fork with one other block takes %v, %w", info, err)
	}
	if _, err := os.Stat(s.shard(leavesDir, key("x"))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
