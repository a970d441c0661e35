package fsys

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Resize changes an ext2/3/4 file system and its file to size bytes. The file
// system takes the whole blocks of it. A shrink that the content does not allow
// is refused before anything is written, with the smallest possible size. An
// unclean file system is repaired first, as e2fsck -p does. The time that the
// tools record is the one already in the superblock, so the result depends on
// the input alone.
//
// When resizing itself fails (a full disk, a cancelled context) the file is
// damaged: work on a copy that can be thrown away.
func Resize(ctx context.Context, path string, size int64) error {
	err := withExt(path, func(f *os.File, l *extLayout, fileSize int64) error {
		r := extResizer{ctx: ctx, f: f, l: l, fileSize: fileSize}
		return r.resize(size)
	})
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}

// Shrink makes an ext2/3/4 file system as small as its content allows, then
// extra bytes larger, and cuts the file to it. It returns the new size. What is
// said at Resize about repair, time and failure holds here too.
func Shrink(ctx context.Context, path string, extra int64) (int64, error) {
	var size int64
	err := withExt(path, func(f *os.File, l *extLayout, fileSize int64) error {
		r := extResizer{ctx: ctx, f: f, l: l, fileSize: fileSize}
		err := r.shrink(extra)
		size = r.l.size()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("shrink: %w", err)
	}
	return size, nil
}

// MinSize estimates the smallest size of an ext2/3/4 file system in bytes, as
// resize2fs does: Resize accepts it, Shrink may get below it.
func MinSize(ctx context.Context, path string) (int64, error) {
	var size int64
	err := withExt(path, func(f *os.File, l *extLayout, fileSize int64) error {
		r := extResizer{ctx: ctx, f: f, l: l, fileSize: fileSize}
		blocks, err := r.minimum()
		size = blocks * int64(l.blockSize)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("minimum size: %w", err)
	}
	return size, nil
}

// withExt opens a file that is one whole ext2/3/4 file system.
func withExt(path string, do func(*os.File, *extLayout, int64) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	info, err := probe(f, 0, st.Size())
	if err != nil {
		return err
	}
	if info.Type != "ext2" && info.Type != "ext3" && info.Type != "ext4" {
		return fmt.Errorf("it holds %s, and only ext2, ext3 and ext4 can be resized", nameOf(info.Type))
	}
	l, err := readExtLayout(f)
	if err != nil {
		return err
	}
	if l.size() > st.Size() {
		return fmt.Errorf("the file ends at %d bytes, its file system at %d: the image was cut off", st.Size(), l.size())
	}
	return do(f, l, st.Size())
}

type extResizer struct {
	ctx      context.Context
	f        *os.File
	l        *extLayout
	fileSize int64
}

// env stops the clock of e2fsprogs at the latest time the superblock knows:
// mounted, written or checked.
func (r *extResizer) env() []string {
	latest := uint32(epoch)
	for _, at := range []int{0x2c, 0x30, 0x40} {
		latest = max(latest, binary.LittleEndian.Uint32(r.l.sb[at:]))
	}
	return []string{fakeTime(int64(latest)), "E2FSCK_TIME=" + strconv.FormatUint(uint64(latest), 10)}
}

func (r *extResizer) tool(name string, args ...string) (string, error) {
	return toolRun{image: r.f, env: r.env()}.run(r.ctx, name, args...)
}

func (r *extResizer) resize(size int64) error {
	bs := int64(r.l.blockSize)
	blocks := size / bs
	if blocks < 1 {
		return fmt.Errorf("%d bytes are less than one block", size)
	}
	if uint64(blocks) == r.l.blocks {
		return r.f.Truncate(size)
	}
	if uint64(blocks) < r.l.blocks {
		least, err := r.minimum()
		if err != nil {
			return err
		}
		if blocks < least {
			return fmt.Errorf("%s is too small: the file system needs at least %s (%d bytes)", FormatSize(size), FormatSize(least*bs), least*bs)
		}
	}
	if err := r.repair(); err != nil {
		return err
	}
	if size > r.fileSize {
		if err := r.f.Truncate(size); err != nil {
			return err
		}
	}
	err := r.to(blocks)
	if errors.Is(err, errUndone) {
		return fmt.Errorf("%s is too small to pack the file system into: try some more (%w)", FormatSize(size), err)
	}
	if err != nil {
		return err
	}
	return r.f.Truncate(size)
}

func (r *extResizer) shrink(extra int64) error {
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
func (r *extResizer) shrinkNearly() error {
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
func (r *extResizer) to(blocks int64) error {
	args := []string{"-f", imagePath, strconv.FormatInt(blocks, 10)}
	if blocks == leastBlocks {
		args = []string{"-f", "-M", imagePath}
	}
	undo := ""
	if blocks == leastBlocks || uint64(blocks) < r.l.blocks {
		dir, err := os.MkdirTemp(filepath.Dir(r.f.Name()), ".b9-undo-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		undo = filepath.Join(dir, "blocks")
		args = append([]string{"-z", undo}, args...)
	}
	_, err := r.tool("resize2fs", args...)
	var exit *exitError
	if errors.As(err, &exit) && undo != "" {
		err = r.undo(undo, err)
	}
	if err != nil {
		return err
	}
	r.l, err = readExtLayout(r.f)
	return err
}

// undo puts back what a failed shrink overwrote.
func (r *extResizer) undo(file string, cause error) error {
	if _, err := r.tool("e2undo", file, imagePath); err != nil {
		return errors.Join(cause, err)
	}
	if err := r.repair(); err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("%w: %v", errUndone, cause)
}

// repair replays the journal and mends what is safe to mend.
func (r *extResizer) repair() error {
	_, err := r.tool("e2fsck", "-fp", imagePath)
	var exit *exitError
	if errors.As(err, &exit) && exit.code == 1 {
		return nil // errors were corrected
	}
	return err
}

// minimum is resize2fs' estimate of the least number of blocks.
func (r *extResizer) minimum() (int64, error) {
	if r.l.incompat&incompatRecover != 0 {
		if err := r.repair(); err != nil {
			return 0, err
		}
	}
	out, err := r.tool("resize2fs", "-f", "-P", imagePath)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`minimum size of the filesystem: (\d+)`).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("resize2fs -P: no size in %q", out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}
