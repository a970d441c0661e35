package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

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

// Resize changes the file system in f, and f, to size bytes. See fsys.Resize.
func Resize(ctx context.Context, f *os.File, size int64) error {
	r, err := newResizer(ctx, f)
	if err != nil {
		return err
	}
	return r.resize(size)
}

// Shrink makes the file system in f as small as its content allows, then extra
// bytes larger, cuts f to it, and returns the new size. See fsys.Shrink.
func Shrink(ctx context.Context, f *os.File, extra int64) (int64, error) {
	r, err := newResizer(ctx, f)
	if err != nil {
		return 0, err
	}
	err = r.shrink(extra)
	return r.l.size(), err
}

type resizer struct {
	ctx      context.Context
	f        *os.File
	l        *layout
	fileSize int64
}

func newResizer(ctx context.Context, f *os.File) (*resizer, error) {
	l, size, err := whole(f)
	if err != nil {
		return nil, err
	}
	return &resizer{ctx: ctx, f: f, l: l, fileSize: size}, nil
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
	if uint64(blocks) < r.l.blocks {
		least, err := r.minimum()
		if err != nil {
			return err
		}
		if blocks < least {
			return fmt.Errorf("%s is too small: the file system needs at least %s (%d bytes)", size.About(length), size.About(least*bs), least*bs)
		}
	}
	if err := r.repair(); err != nil {
		return err
	}
	if length > r.fileSize {
		if err := r.f.Truncate(length); err != nil {
			return err
		}
	}
	err := r.to(blocks)
	if errors.Is(err, errUndone) {
		return fmt.Errorf("%s is too small to pack the file system into: try some more (%w)", size.About(length), err)
	}
	if err != nil {
		return err
	}
	return r.f.Truncate(length)
}

func (r *resizer) shrink(extra int64) error {
	if extra < 0 {
		return fmt.Errorf("%d extra bytes are negative", extra)
	}
	if err := r.repair(); err != nil {
		return err
	}
	// resize2fs estimates the minimum; what it has packed lets it see a lower one.
	for range 4 {
		before := r.l.blocks
		err := r.to(leastBlocks)
		if errors.Is(err, errUndone) {
			err = r.shrinkNearly()
			before = r.l.blocks
		}
		if err != nil {
			return err
		}
		if before-min(before, r.l.blocks) <= before/100 {
			break
		}
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

// shrinkNearly shrinks to a little more than the estimate, which was too low;
// a file system that cannot be packed any closer stays as it is.
func (r *resizer) shrinkNearly() error {
	least, err := r.minimum()
	if err != nil {
		return err
	}
	for slack := int64(32); ; slack *= 2 {
		blocks := least + least/64 + slack
		if uint64(blocks) >= r.l.blocks {
			return nil
		}
		if err := r.to(blocks); !errors.Is(err, errUndone) {
			return err
		}
	}
}

// leastBlocks asks resize2fs for the least it knows.
const leastBlocks = -1

// errUndone says that resize2fs had to give up while it was moving blocks, and
// that the file system is again what it was.
var errUndone = errors.New("resize2fs ran out of space")

// to runs resize2fs to a number of blocks and reads the superblock again. What
// a shrink overwrites is kept until it is done: resize2fs learns only on the
// way that an estimate was too low, and leaves a damaged file system.
func (r *resizer) to(blocks int64) error {
	args := []string{"-f", hosttool.ImagePath, strconv.FormatInt(blocks, 10)}
	if blocks == leastBlocks {
		args = []string{"-f", "-M", hosttool.ImagePath}
	}
	undo := ""
	if blocks == leastBlocks || uint64(blocks) < r.l.blocks {
		dir, err := os.MkdirTemp(beside(r.f), ".b9-undo-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		undo = filepath.Join(dir, "blocks")
		args = append([]string{"-z", undo}, args...)
	}
	_, err := r.tool("resize2fs", args...)
	var exit *hosttool.ExitError
	if errors.As(err, &exit) && undo != "" {
		err = r.undo(undo, err)
	}
	if err != nil {
		return err
	}
	r.l, err = readLayout(r.f)
	return err
}

// beside is the directory of f, which may have no name but that below /proc.
func beside(f *os.File) string {
	if at, err := os.Readlink(f.Name()); err == nil && strings.HasPrefix(f.Name(), "/proc/") {
		return filepath.Dir(at)
	}
	return filepath.Dir(f.Name())
}

// undo puts back what a failed shrink overwrote.
func (r *resizer) undo(file string, cause error) error {
	if _, err := r.tool("e2undo", file, hosttool.ImagePath); err != nil {
		return errors.Join(cause, err)
	}
	if err := r.repair(); err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("%w: %v", errUndone, cause)
}

// repair replays the journal and mends what is safe to mend.
func (r *resizer) repair() error {
	_, err := r.tool("e2fsck", "-fp", hosttool.ImagePath)
	var exit *hosttool.ExitError
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
