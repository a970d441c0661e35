package vfat

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
)

// Create adds an empty file or directory, made at sec seconds.
func (e *Editor) Create(dir *Object, name string, isDir bool, sec int64) (*Object, error) {
	d, err := e.load(dir)
	if err != nil {
		return nil, err
	}
	if d.children[fold(name)] != nil {
		return nil, unix.EEXIST
	}
	at, err := e.room(dir, name)
	if err != nil {
		return nil, err
	}
	attr := byte(attrArchive)
	if isDir {
		attr = attrDir
	}
	var r dirRecord
	if _, err := binary.Decode(record([11]byte{}, attr, 0, 0, sec), binary.LittleEndian, &r); err != nil {
		return nil, err
	}
	o := e.newObject(dir, name, r)
	if isDir {
		if err := e.fillDir(o, dir, sec); err != nil {
			return nil, err
		}
	}
	if err := e.put(o, at); err != nil {
		return nil, errors.Join(err, e.cut(o, 0))
	}
	return o, e.touch(dir, sec)
}

// fillDir gives a new directory its cluster, with the entries of itself and of the
// directory that it will be in.
func (e *Editor) fillDir(o, parent *Object, sec int64) error {
	o.chained = true
	if err := e.grow(o, 1); err != nil {
		return err
	}
	b := record([11]byte([]byte(".          ")), attrDir, o.first(), 0, sec)
	b = append(b, record([11]byte([]byte("..         ")), attrDir, up(parent), 0, sec)...)
	_, err := e.image.WriteAt(b, e.g.clusterAt(o.first()))
	return err
}

// up is the cluster that ".." of what lies in a directory names: 0 for the root, even
// where it has one.
func up(dir *Object) uint32 {
	if dir.parent == nil {
		return 0
	}
	return dir.first()
}

// room finds a place in a directory for the records of a new name, of which there is
// one more than its parts need at most.
func (e *Editor) room(dir *Object, name string) (int, error) {
	if len(utf16.Encode([]rune(name))) > 255 {
		return 0, unix.ENAMETOOLONG
	}
	if checkName(name) != nil {
		return 0, unix.EINVAL
	}
	need, run := 1+(len(utf16.Encode([]rune(name)))+12)/13, 0
	for {
		d := dir.dir
		for i := 0; i < len(d.data)/32; i++ {
			if b := d.data[i*32]; b != 0 && b != 0xe5 {
				run = 0
			} else if run++; run == need {
				return i - need + 1, nil
			}
		}
		if dir.fixed || len(d.data)/32+need > maxDir {
			return 0, unix.ENOSPC
		}
		list, err := e.chain(dir)
		if err == nil {
			err = e.grow(dir, len(list)+1)
		}
		if err != nil {
			return 0, err
		}
		d.data, run = append(d.data, make([]byte, e.clusterSize())...), 0
	}
}

// put writes the records of o into its directory, from a place that room has found.
func (e *Editor) put(o *Object, at int) error {
	d := o.parent.dir
	short, long, err := d.names.add(o.Name)
	if err != nil {
		return err
	}
	o.rec.Name, o.rec.Case = short, 0
	b := longRecords(entry{short: short, long: long})
	o.at, o.slots = at, len(b)/32+1
	copy(d.data[at*32:], b)
	d.add(o)
	slices.SortFunc(d.order, func(a, b *Object) int { return a.at - b.at })
	n := o.slots - 1
	if end := (at + o.slots) * 32; end < len(d.data) && d.data[end] == 0 {
		n += 2 // with the end, behind which the image may hold anything
	}
	return errors.Join(e.store(o), e.writeSlots(o.parent, at, n))
}

// store writes the record of an object. The root has none, and what is not in a
// directory, or no longer, neither.
func (e *Editor) store(o *Object) error {
	if o.parent == nil || o.slots == 0 || o.removed {
		return nil
	}
	b, err := binary.Append(nil, binary.LittleEndian, o.rec)
	if err != nil {
		return err
	}
	last := o.at + o.slots - 1
	copy(o.parent.dir.data[last*32:], b)
	return e.writeSlots(o.parent, last, 1)
}

// writeSlots writes n records of a directory to the image.
func (e *Editor) writeSlots(dir *Object, at, n int) error {
	for i := at; i < at+n; i++ {
		where := e.g.rootAt() + int64(i)*32
		if !dir.fixed {
			list, err := e.chain(dir)
			if err != nil {
				return err
			}
			off := int64(i) * 32
			where = e.g.clusterAt(list[off/e.clusterSize()]) + off%e.clusterSize()
		}
		if _, err := e.image.WriteAt(dir.dir.data[i*32:][:32], where); err != nil {
			return err
		}
	}
	return nil
}

// unlist takes the records of o out of its directory.
func (e *Editor) unlist(o *Object) error {
	d := o.parent.dir
	for i := range o.slots {
		b := d.data[(o.at+i)*32:][:32]
		clear(b)
		b[0] = 0xe5
	}
	delete(d.children, fold(o.Name))
	delete(d.names.folded, fold(o.Name))
	delete(d.names.short, o.rec.Name)
	d.order = slices.DeleteFunc(d.order, func(x *Object) bool { return x == o })
	at, n := o.at, o.slots
	o.slots = 0
	return e.writeSlots(o.parent, at, n)
}

// Remove removes a file or an empty directory at sec seconds. A file that is in use
// keeps its data until it is no more.
func (e *Editor) Remove(o *Object, sec int64) error {
	if o.IsDir() {
		if d, err := e.load(o); err != nil {
			return err
		} else if len(d.order) > 0 {
			return unix.ENOTEMPTY
		}
	}
	if err := e.unlist(o); err != nil {
		return err
	}
	o.removed = true
	if o.uses > 0 {
		e.orphans[o] = true
	} else if err := e.cut(o, 0); err != nil {
		return err
	}
	return e.touch(o.parent, sec)
}

// Use counts a user of o, who keeps its data from being freed until Unuse.
func (e *Editor) Use(o *Object) { o.uses++ }

// Unuse ends what Use began.
func (e *Editor) Unuse(o *Object) error {
	if o.uses--; o.uses > 0 || !e.orphans[o] {
		return nil
	}
	delete(e.orphans, o)
	return e.cut(o, 0)
}

// Rename gives o a name in a directory, at sec seconds. What has that name there is
// replaced, unless keep says that this is EEXIST.
func (e *Editor) Rename(o, dir *Object, name string, keep bool, sec int64) error {
	d, err := e.load(dir)
	if err != nil {
		return err
	}
	for p := dir; p != nil; p = p.parent {
		if p == o {
			return unix.EINVAL // into itself
		}
	}
	old := d.children[fold(name)]
	if old == o && o.Name == name {
		return nil
	}
	if old != nil && old != o {
		if err := e.replaceable(old, o, keep); err != nil {
			return err
		}
	}
	at, err := e.room(dir, name)
	if err != nil {
		return err
	}
	if old != nil && old != o {
		if err := e.Remove(old, sec); err != nil {
			return err
		}
	}
	from := o.parent
	if err := e.unlist(o); err != nil {
		return err
	}
	o.parent, o.Name = dir, name
	if err := errors.Join(e.put(o, at), e.touch(from, sec), e.touch(dir, sec)); err != nil {
		return err
	}
	if o.IsDir() && from != dir {
		return e.setUp(o)
	}
	return nil
}

// replaceable tells why old can't give its place to o.
func (e *Editor) replaceable(old, o *Object, keep bool) error {
	switch {
	case keep:
		return unix.EEXIST
	case old.IsDir() && !o.IsDir():
		return unix.EISDIR
	case !old.IsDir() && o.IsDir():
		return unix.ENOTDIR
	case old.IsDir():
		d, err := e.load(old)
		if err != nil {
			return err
		}
		if len(d.order) > 0 {
			return unix.ENOTEMPTY
		}
	}
	return nil
}

// setUp lets the entry ".." of a directory name the one that it is in.
func (e *Editor) setUp(o *Object) error {
	d, err := e.load(o)
	if err != nil || len(d.data) < 64 || string(d.data[32:34]) != ".." {
		return err
	}
	c := up(o.parent)
	binary.LittleEndian.PutUint16(d.data[32+20:], uint16(c>>16))
	binary.LittleEndian.PutUint16(d.data[32+26:], uint16(c))
	return e.writeSlots(o, 1, 1)
}

// SetModified sets when o was modified, in seconds.
func (e *Editor) SetModified(o *Object, sec int64) error {
	o.rec.Date, o.rec.Clock = dosTime(sec)
	return e.store(o)
}

// touch is SetModified of a directory whose entries have changed.
func (e *Editor) touch(dir *Object, sec int64) error { return e.SetModified(dir, sec) }

// SetReadOnly sets whether o is write-protected.
func (e *Editor) SetReadOnly(o *Object, on bool) error {
	o.rec.Attr &^= attrReadOnly
	if on {
		o.rec.Attr |= attrReadOnly
	}
	return e.store(o)
}

// span finds byte off of a file in the image, and how many of n lie there in one run.
func (e *Editor) span(o *Object, off, n int64) (at, length int64, err error) {
	list, err := e.chain(o)
	if err != nil {
		return 0, 0, err
	}
	size := e.clusterSize()
	i := off / size
	if i >= int64(len(list)) {
		return 0, 0, volume.Damaged("a file is longer than its chain of clusters")
	}
	at, length = e.g.clusterAt(list[i])+off%size, size-off%size
	for ; length < n && i+1 < int64(len(list)) && list[i+1] == list[i]+1; i++ {
		length += size
	}
	return at, min(length, n), nil
}

// ReadAt reads a file, as io.ReaderAt does.
func (e *Editor) ReadAt(o *Object, b []byte, off int64) (int, error) {
	if off >= o.Size() {
		return 0, io.EOF
	}
	var end error
	if left := o.Size() - off; int64(len(b)) > left {
		b, end = b[:left], io.EOF
	}
	err := e.each(o, b, off, e.image.ReadAt)
	return len(b), errors.Join(err, end)
}

// each calls do with the stretches of b, and where they lie in the image.
func (e *Editor) each(o *Object, b []byte, off int64, do func([]byte, int64) (int, error)) error {
	for len(b) > 0 {
		at, n, err := e.span(o, off, int64(len(b)))
		if err != nil {
			return err
		}
		if _, err := do(b[:n], at); err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	return nil
}

// WriteAt writes into a file at sec seconds, which grows as it needs to.
func (e *Editor) WriteAt(o *Object, b []byte, off, sec int64) error {
	end := off + int64(len(b))
	if end > maxFile {
		return unix.EFBIG
	}
	if end > o.Size() {
		if err := e.extend(o, end); err != nil {
			return err
		}
	}
	if err := e.each(o, b, off, e.image.WriteAt); err != nil {
		return err
	}
	o.rec.Attr |= attrArchive
	return e.SetModified(o, sec)
}

// extend makes a file longer; what comes to be in it is zeros.
func (e *Editor) extend(o *Object, size int64) error {
	cs := e.clusterSize()
	if err := e.grow(o, int((size+cs-1)/cs)); err != nil {
		return err
	}
	if slack := min(size, (o.Size()+cs-1)/cs*cs) - o.Size(); slack > 0 {
		at, _, err := e.span(o, o.Size(), slack)
		if err == nil {
			err = e.zero(at, slack)
		}
		if err != nil {
			return err
		}
	}
	o.rec.Size = uint32(size)
	return e.store(o)
}

// Truncate sets the size of a file in bytes, at sec seconds.
func (e *Editor) Truncate(o *Object, size, sec int64) error {
	switch {
	case size > maxFile:
		return unix.EFBIG
	case size > o.Size():
		if err := e.extend(o, size); err != nil {
			return err
		}
	case size < o.Size():
		o.rec.Size = uint32(size)
		cs := e.clusterSize()
		if err := e.cut(o, int((size+cs-1)/cs)); err != nil {
			return err
		}
	}
	return e.SetModified(o, sec)
}
