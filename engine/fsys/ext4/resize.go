package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// whole reads the layout of an ext2/3/4 file system that fills the whole of f,
// and returns the length of the file in bytes too.
func whole(f *os.File) (*layout, int64, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	l, err := readLayout(f)
	if err != nil {
		return nil, 0, err
	}
	if l.size() > st.Size() {
		return nil, 0, fmt.Errorf("the file ends at %d bytes, its file system at %d: the image was cut off", st.Size(), l.size())
	}
	return l, st.Size(), nil
}

// Again puts the image that is worked on back to what it was, and opens it. Who calls
// it closes that.
type Again func() (*os.File, error)

// Resize changes the file system in f, and f, to size bytes. See fsys.Resize.
func Resize(ctx context.Context, f *os.File, size int64, again Again) error {
	r, err := newResizer(ctx, f)
	if err != nil {
		return err
	}
	r.again = again
	if err = r.resize(size); err == nil {
		err = r.verify()
	}
	return r.close(err)
}

// Shrink makes the file system in f as small as its content allows, then extra
// bytes larger, cuts f to it, and returns the new size. See fsys.Shrink.
func Shrink(ctx context.Context, f *os.File, extra int64, again Again) (int64, error) {
	r, err := newResizer(ctx, f)
	if err != nil {
		return 0, err
	}
	r.again = again
	if err = r.shrink(extra); err == nil {
		err = r.verify()
	}
	return r.l.size(), r.close(err)
}

type resizer struct {
	ctx       context.Context
	f         *os.File
	l         *layout
	fileSize  int64
	again     Again
	restarted bool // f comes from again
}

func newResizer(ctx context.Context, f *os.File) (*resizer, error) {
	l, size, err := whole(f)
	if err != nil {
		return nil, err
	}
	return &resizer{ctx: ctx, f: f, l: l, fileSize: size}, nil
}

// close closes what again opened, and returns err, or else its own error.
func (r *resizer) close(err error) error {
	if r.restarted {
		err = errors.Join(err, r.f.Close())
	}
	return err
}

// env stops the clock of e2fsprogs at the latest time the superblock knows:
// mounted, written or checked.
func (r *resizer) env() []string {
	latest := uint32(tree.Epoch)
	for _, at := range []int{0x2c, 0x30, 0x40} {
		latest = max(latest, binary.LittleEndian.Uint32(r.l.sb[at:]))
	}
	return []string{fakeTime(int64(latest)), "E2FSCK_TIME=" + strconv.FormatUint(uint64(latest), 10)}
}

func (r *resizer) tool(name string, args ...string) (string, error) {
	return hosttool.Command{Image: r.f, Env: r.env()}.Run(r.ctx, name, args...)
}

func (r *resizer) resize(length int64) error {
	bs := int64(r.l.blockSize)
	blocks := length / bs
	if blocks < 1 {
		return fmt.Errorf("%d bytes are less than one block", length)
	}
	if uint64(blocks) == r.l.blocks {
		return r.f.Truncate(length)
	}
	change := r.grow
	if uint64(blocks) < r.l.blocks {
		change = r.reduce
	}
	if err := change(blocks, length); err != nil {
		return err
	}
	return r.f.Truncate(length)
}

// grow gives the file system more blocks.
func (r *resizer) grow(blocks, length int64) error {
	if err := r.repair(); err != nil {
		return err
	}
	if length > r.fileSize {
		if err := r.f.Truncate(length); err != nil {
			return err
		}
	}
	return r.to(blocks)
}

// reduce leaves the file system fewer blocks. The estimate of resize2fs is often much
// too high, in one with bigalloc always, and sometimes too low: then the file system is
// packed as Shrink does, and whether it is small enough is known.
func (r *resizer) reduce(blocks, length int64) error {
	least, err := r.minimum()
	if err != nil {
		return err
	}
	if blocks < least && r.again == nil {
		return r.tooSmall(length, least)
	}
	if err := r.repair(); err != nil {
		return err
	}
	if blocks >= least {
		err := r.to(blocks)
		switch {
		case !errors.Is(err, errPacked):
			return err
		case r.again == nil:
			return fmt.Errorf("%s is too small to pack the file system into: try some more (%w)", size.About(length), err)
		}
		if err := r.restart(); err != nil {
			return err
		}
	}
	if err := r.pack(); err != nil {
		return err
	}
	have := int64(r.l.blocks)
	if have == blocks {
		return nil
	}
	err = r.to(blocks) // by a little less it may go on
	if errors.Is(err, errPacked) && have > blocks {
		return r.tooSmall(length, have)
	}
	return err
}

func (r *resizer) tooSmall(length, least int64) error {
	bytes := least * int64(r.l.blockSize)
	return fmt.Errorf("%s is too small: the file system needs at least %s (%d bytes)", size.About(length), size.About(bytes), bytes)
}

func (r *resizer) shrink(extra int64) error {
	if extra < 0 {
		return fmt.Errorf("%d extra bytes are negative", extra)
	}
	if err := r.repair(); err != nil {
		return err
	}
	if err := r.pack(); err != nil {
		return err
	}
	bs := int64(r.l.blockSize)
	if extra > 0 {
		if extra > 1<<60 {
			return fmt.Errorf("%d extra bytes are out of range", extra)
		}
		blocks := int64(r.l.blocks) + (extra+bs-1)/bs
		if err := r.f.Truncate(max(r.fileSize, blocks*bs)); err != nil {
			return err
		}
		if err := r.to(blocks); err != nil {
			return err
		}
	}
	return r.f.Truncate(r.l.size())
}

// pack shrinks the file system as far as resize2fs can. resize2fs estimates the
// minimum; what it has packed lets it see a lower one.
func (r *resizer) pack() error {
	if r.l.ro&roBigalloc != 0 && r.again != nil {
		return r.packClusters()
	}
	for done := range 4 {
		before := r.l.blocks
		err := r.to(leastBlocks)
		if errors.Is(err, errPacked) {
			return r.packNearly(done, err)
		}
		if err != nil {
			return err
		}
		if before-min(before, r.l.blocks) <= before/100 {
			break
		}
	}
	return nil
}

// packClusters packs a file system with bigalloc, of which resize2fs estimates as least
// size little less than it has: the least that it can be resized to is looked for,
// between that and half of the blocks in use, to a sixteenth. What is possible depends
// on the steps before, which are taken again after one that was not.
func (r *resizer) packClusters() error {
	var steps []int64
	fits := int64(r.l.blocks)
	fails := (fits - min(fits, int64(r.l.freeBlocks()))) / 2 // metadata of groups goes with the groups
	for fits-fails > fits/16 {
		middle := fails + (fits-fails)/2
		err := r.toClusters(middle)
		if err == nil {
			fits, steps = int64(r.l.blocks), append(steps, middle)
			continue
		}
		if !errors.Is(err, errPacked) || r.ctx.Err() != nil {
			return err
		}
		fails = middle
		if err := r.restart(); err != nil {
			return err
		}
		for _, blocks := range steps {
			if err := r.toClusters(blocks); err != nil {
				return err
			}
		}
	}
	return nil
}

// toClusters is to for a file system with bigalloc, in which resize2fs leaves wrong counts.
func (r *resizer) toClusters(blocks int64) error {
	if err := r.to(blocks); err != nil {
		return err
	}
	return r.repair()
}

// packNearly begins anew after resize2fs has failed in its turn after done good
// ones, which are taken again, and then shrinks to a little more than the estimate,
// which was too low. A file system that cannot be packed any closer stays as it is.
func (r *resizer) packNearly(done int, cause error) error {
	if r.again == nil {
		return cause
	}
	for slack := int64(32); ; slack *= 2 {
		if err := r.restart(); err != nil {
			return errors.Join(cause, err)
		}
		for range done {
			if err := r.to(leastBlocks); err != nil {
				return err
			}
		}
		least, err := r.minimum()
		if err != nil {
			return err
		}
		blocks := least + least/64 + slack
		if uint64(blocks) >= r.l.blocks {
			return nil
		}
		if err := r.to(blocks); !errors.Is(err, errPacked) {
			return err
		}
	}
}

// restart works on the image as it was in the beginning, repaired.
func (r *resizer) restart() error {
	f, err := r.again()
	if err != nil {
		return err
	}
	if r.restarted {
		err = r.f.Close()
	}
	r.f, r.restarted = f, true
	if err != nil {
		return err
	}
	if r.l, r.fileSize, err = whole(f); err != nil {
		return err
	}
	return r.repair()
}

// leastBlocks asks resize2fs for the least it knows.
const leastBlocks = -1

// errPacked says that resize2fs had to give up while it was moving blocks. It
// learns only on the way that an estimate was too low, and leaves a damaged file
// system.
var errPacked = errors.New("resize2fs gave up")

// to runs resize2fs to a number of blocks and reads the superblock again. Its undo
// file (-z) is of no use: that of 1.47.0 leaves a file system of 1 KiB blocks
// damaged even where nothing is to be undone.
func (r *resizer) to(blocks int64) error {
	args := []string{"-f", hosttool.ImagePath, strconv.FormatInt(blocks, 10)}
	if blocks == leastBlocks {
		args = []string{"-f", "-M", hosttool.ImagePath}
	}
	_, err := r.tool("resize2fs", args...)
	var exit *tool.Failure
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %w", errPacked, err)
	}
	if err != nil {
		return err
	}
	r.l, err = readLayout(r.f)
	return err
}

// verify checks what has become of the file system. resize2fs leaves wrong counts
// in one with bigalloc and exits with 0: such things are repaired, and what can't
// be is an error.
func (r *resizer) verify() error {
	if Check(r.ctx, r.f, "resized") == nil {
		return nil
	}
	if err := r.repair(); err != nil {
		return fmt.Errorf("the file system is damaged: %w", err)
	}
	return Check(r.ctx, r.f, "resized")
}

// repair replays the journal and mends what is safe to mend.
func (r *resizer) repair() error {
	_, err := r.tool("e2fsck", "-fp", hosttool.ImagePath)
	var exit *tool.Failure
	if errors.As(err, &exit) && exit.Code == 1 {
		return nil // errors were corrected
	}
	return err
}

// minimum is resize2fs' estimate of the least number of blocks.
func (r *resizer) minimum() (int64, error) {
	if r.l.incompat&incompatRecover != 0 {
		if err := r.repair(); err != nil {
			return 0, err
		}
	}
	out, err := r.tool("resize2fs", "-f", "-P", hosttool.ImagePath)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`minimum size of the filesystem: (\d+)`).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("resize2fs -P: no size in %q", out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// Tools lists the programs of the host behind Make, Resize and Shrink, whose
// versions belong in the key of a step that calls these. resize2fs prints its
// version and exits with 1.
func Tools() []tool.Program {
	return []tool.Program{
		{Name: "mke2fs", VersionArgs: []string{"-V"}},
		{Name: "resize2fs", VersionArgs: []string{"-h"}},
		{Name: "e2fsck", VersionArgs: []string{"-V"}},
	}
}
