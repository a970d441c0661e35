package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/sparse"
)

// Damaged blocks
//
// Of an object that has a table of leaves, verification knows which blocks are damaged, and
// the hash of what they held. The tables of all other objects tell whether one of these has
// the same block, at whatever place. An object all of whose damaged blocks are somewhere,
// or were zeros, is mended in place: what it gets back are the bytes that it is named for,
// so whoever reads it meanwhile reads nothing worse than before. It counts
// as mended when all of it was hashed again, and as damaged until then.

// broken is an object with damaged blocks.
type broken struct {
	digest, got Digest
	path        string
	st          unix.Stat_t
	size        int64          // bytes that it should have
	blocks      []digest.Leaf  // that it should have and has not, in order
	from        []source       // of each of them
	difference  *layer.Trailer // if it is one
}

// source is a block of an object that another one needs; the zero digest for none.
type source struct {
	object Digest
	index  int64
}

// blocks looks for what the broken objects lack, and reports them.
func (v *verifier) blocks(ctx context.Context) error {
	if len(v.broken) == 0 {
		return nil
	}
	if err := v.findBlocks(ctx); err != nil {
		return err
	}
	for _, b := range v.broken {
		reason := b.reason()
		if v.mending && b.curable() {
			err := v.mend(ctx, b)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				v.mended[b.digest] = true
				v.s.proveMended(b.digest)
				v.report.Repaired++
				v.since[b.digest] = v.s.damagedSince(b.digest, &b.st)
				v.report.Corrupt = append(v.report.Corrupt, b.damage(reason+": it is repaired"))
				continue
			}
			reason += ", but it can't be repaired with that: " + err.Error()
		}
		v.corrupt(b.rank(), "file", b.digest, b.path, reason, &b.st)
		v.report.Corrupt[len(v.report.Corrupt)-1] = b.damage(reason)
	}
	v.broken = nil
	return nil
}

// findBlocks looks into the tables of all objects for the missing blocks.
func (v *verifier) findBlocks(ctx context.Context) error {
	wanted := map[[32]byte][]*source{}
	lacks := map[Digest]map[int64]bool{}
	for _, b := range v.broken {
		b.from, lacks[b.digest] = make([]source, len(b.blocks)), map[int64]bool{}
		for i, l := range b.blocks {
			lacks[b.digest][l.Index] = true
			if l.Sum != (Digest{}) {
				wanted[l.Sum] = append(wanted[l.Sum], &b.from[i])
			}
		}
	}
	return v.s.eachStored(leavesDir, func(_ string, d Digest, _ os.FileInfo) error {
		t, ok := v.s.Leaves(d)
		own, there := v.s.ownBlock(d)
		if !ok || !there || v.bad[d] {
			return ctx.Err()
		}
		for l := range t.All() {
			for _, at := range wanted[l.Sum] {
				if at.object.IsZero() && !lacks[d][l.Index] && own(l.Index) {
					*at = source{d, l.Index}
				}
			}
		}
		return ctx.Err()
	})
}

// curable reports whether all that the object lacks is somewhere.
func (b *broken) curable() bool {
	for i, l := range b.blocks {
		if l.Sum != (Digest{}) && b.from[i].object.IsZero() {
			return false
		}
	}
	return true
}

// damage is the object's line of the report.
func (b *broken) damage(reason string) Damage {
	d := Damage{What: "file " + b.digest.String(), Path: b.path, Reason: reason}
	for i, l := range b.blocks {
		block := DamagedBlock{Offset: l.Index * digest.BlockSize}
		if !b.from[i].object.IsZero() {
			block.From = &b.from[i].object
		}
		d.Blocks = append(d.Blocks, block)
	}
	return d
}

// namedBlocks is how many damaged blocks a message lists.
const namedBlocks = 8

// reason tells which blocks are damaged, and who has them.
func (b *broken) reason() string {
	if len(b.blocks) == 0 {
		return fmt.Sprintf("it is %d bytes long and not %d", b.st.Size, b.size)
	}
	var offsets []string
	others, zeros := map[Digest]bool{}, 0
	found := 0
	for i, l := range b.blocks {
		if i < namedBlocks {
			offsets = append(offsets, fmt.Sprint(l.Index*digest.BlockSize))
		}
		switch {
		case l.Sum == Digest{}:
			zeros++
		case !b.from[i].object.IsZero():
			found++
			others[b.from[i].object] = true
		}
	}
	if more := len(b.blocks) - len(offsets); more > 0 {
		offsets = append(offsets, fmt.Sprintf("and %d more", more))
	}
	text := fmt.Sprintf("its content has the digest %s: of its blocks of 64 KiB %d are damaged, which begin at byte %s", b.got, len(b.blocks), strings.Join(offsets, ", "))
	switch lost := len(b.blocks) - found - zeros; {
	case found+zeros == 0:
		return text + "; no other object has them"
	case lost > 0:
		return text + fmt.Sprintf("; no other object has %d of them", lost)
	case len(others) == 0:
		return text + "; they were zeros"
	}
	return text + "; " + list(others) + " have what was there"
}

// list names objects, in order, a few of them.
func list(objects map[Digest]bool) string {
	var names []string
	for d := range objects {
		names = append(names, d.String())
	}
	slices.Sort(names)
	if more := len(names) - 3; more > 0 {
		names = append(names[:3], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// mend writes the damaged blocks of an object as they were.
func (v *verifier) mend(ctx context.Context, b *broken) (err error) {
	if os.Geteuid() != 0 { // who is not root needs the permission to write
		if err := os.Chmod(b.path, 0o600); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Chmod(b.path, 0o444)) }()
	}
	f, err := os.OpenFile(b.path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Ino != b.st.Ino {
		return errors.Join(errors.New("another file has taken its place"), err)
	}
	if b.difference == nil {
		if err := f.Truncate(b.size); err != nil {
			return err
		}
	}
	for i, l := range b.blocks {
		if err := v.mendBlock(ctx, f, b, l, b.from[i]); err != nil {
			return err
		}
	}
	if err := v.s.syncFile(f); err != nil {
		return err
	}
	if d, err := v.rehashMended(ctx, f, b); err != nil || d != b.digest {
		return errors.Join(fmt.Errorf("its content is still another: it has the digest %s", d), err)
	}
	return nil
}

// mendBlock writes one block, if its source holds what its table says.
func (v *verifier) mendBlock(ctx context.Context, f *os.File, b *broken, l digest.Leaf, from source) error {
	at := l.Index * digest.BlockSize
	n := min(digest.BlockSize, b.size-at)
	if b.difference != nil && !hasBlock(b.difference, l.Index) {
		return errors.New("what it says of itself is another image's")
	}
	if l.Sum == (Digest{}) {
		return sparse.Zero(ctx, f, at, n)
	}
	data := make([]byte, n)
	in, err := v.s.Open(from.object)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := in.ReadAt(data, from.index*digest.BlockSize); err != nil && err != io.EOF {
		return err
	}
	if digest.Sum(data) != l.Sum {
		return fmt.Errorf("%s has changed meanwhile", from.object)
	}
	_, err = f.WriteAt(data, at)
	return err
}

// rank is when the object is removed: differences before what they rest on.
func (b *broken) rank() int {
	if b.difference != nil {
		return 1
	}
	return 2
}

// proveMended notes the state of a mended object.
func (s *Store) proveMended(d Digest) {
	var st unix.Stat_t
	if kind, err := s.find(Object{Kind: File, Digest: d}, &st); err == nil {
		s.checked(kind, d, 0)
	}
}
