// Package disk opens, converts, compares and checks disk images in any format.
//
// It hides container formats: an [Image] is a row of bytes of which some parts are
// known to be zero, whether it lies in a raw file, a qcow2, a vmdk, inside a
// partition ([Section]) or nowhere yet ([Assemble]). Every conversion goes through
// that interface, so a new format is one package and one line in [Formats].
//
// What it does not do: it never mounts, never runs a program, never looks into
// file systems, and never opens a file that the caller did not name or allow.
// A format is what the caller says; only [Detect] looks at bytes to guess one.
//
//   - disk.go: [Formats], [Lookup], [Open], [Detect], and what backing files are
//   - unread.go: formats of other programs that are known and not read
//   - convert.go, overlay.go: new files, which appear when they are complete
//   - assemble.go, replace.go: disks made of partitions
//   - compare.go, check.go, info.go: what images say, and how they differ
//   - names.go: package image under the names that callers use
//
// Beneath are image (what formats agree on), a package for each format, partition
// (partition tables), press (compression), and what formats are made of: package
// internal/mapped reads images through tables, internal/pump writes them.
package disk

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/qcow2"
	"b9.build/b9/engine/disk/raw"
	"b9.build/b9/engine/disk/vdi"
	"b9.build/b9/engine/disk/vhd"
	"b9.build/b9/engine/disk/vhdx"
	"b9.build/b9/engine/disk/vmdk"
	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/near"
)

// Formats returns all formats.
func Formats() []image.Format {
	return []image.Format{raw.Format{}, qcow2.Format{}, vmdk.Format{}, vdi.Format{}, vhd.Format{}, vhdx.Format{}}
}

// Lookup returns the format called name. The error lists the known ones.
func Lookup(name string) (image.Format, error) {
	var names []string
	for _, f := range Formats() {
		if f.Name() == name {
			return f, nil
		}
		names = append(names, f.Name())
	}
	sort.Strings(names)
	if Unread(name) != nil {
		return nil, fmt.Errorf("unknown format %q (have %s): b9 neither reads nor writes it", name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("unknown format %q (have %s)%s", name, strings.Join(names, ", "), near.Hint(name, names))
}

// Open opens the image at path, which is in the given format, whatever its bytes
// look like. Only if format is empty it is guessed, as Detect does.
func Open(path, format string, o image.OpenOptions) (image.Image, error) {
	if format == "" {
		var err error
		if format, err = Detect(path); err != nil {
			return nil, err
		}
	}
	f, err := Lookup(format)
	if err != nil {
		return nil, err
	}
	src, err := blob.Open(path)
	if err != nil {
		return nil, err
	}
	img, err := f.Open(src, path, o)
	if err != nil {
		src.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if most := cmp.Or(o.MaxSize, image.DefaultMaxSize); img.Size() > most {
		err := fmt.Errorf("%s: the image claims to have %d bytes, more than the %d that are allowed (OpenOptions.MaxSize)", path, img.Size(), most)
		img.Close()
		return nil, err
	}
	return img, nil
}

// Detect guesses the format of the file at path by its first bytes, or its last ones
// where a format has nothing in front. What is no other format is raw, but for those of
// other programs that b9 knows and does not read ([UnreadError]). It is meant for files a
// user names on the command line: whoever wrote the file chooses the answer.
func Detect(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4096) // the farthest that anything is looked for
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	for _, f := range Formats() {
		if f.Probe(head[:n]) {
			return f.Name(), nil
		}
	}
	if err := checkUnread(f, head[:n]); err != nil {
		return "", err
	}
	return detectEnd(f)
}

// detectEnd looks for a footer.
func detectEnd(f *os.File) (string, error) {
	size, err := f.Seek(0, io.SeekEnd)
	tail := make([]byte, 512)
	if err != nil || size < int64(len(tail)) {
		return raw.Format{}.Name(), err
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return "", err
	}
	if vhd.IsFooter(tail, size) {
		return vhd.Format{}.Name(), nil
	}
	return raw.Format{}.Name(), nil
}

// BackedBy returns a function for image.OpenOptions.Backing that opens the file at
// path in the given format, whatever the image above records. The option o is
// for the backing image itself, so that chains of any length can be declared.
func BackedBy(path, format string, o image.OpenOptions) func(image.Backing) (image.Image, error) {
	return func(image.Backing) (image.Image, error) {
		if format == "" {
			return nil, fmt.Errorf("backing file %s: no format declared", path)
		}
		return Open(path, format, o)
	}
}

// openBacking opens the image that b names, and those under it that b.Backing
// names. A relative path starts at the directory of the image at above.
func openBacking(above string, b image.Backing) (image.Image, error) {
	if b.Format == "" {
		return nil, fmt.Errorf("backing file %s: no format declared", b.Path)
	}
	at := b.Path
	if !filepath.IsAbs(at) {
		at = filepath.Join(filepath.Dir(above), at)
	}
	var o image.OpenOptions
	if b.Backing != nil {
		o.Backing = func(image.Backing) (image.Image, error) { return openBacking(at, *b.Backing) }
	}
	return Open(at, b.Format, o)
}
