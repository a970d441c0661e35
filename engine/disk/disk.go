// Package disk reads and writes disk images and the partition tables in them.
//
// It hides container formats: an [Image] is a row of bytes of which some parts
// are known to be zero, whether it lies in a raw file, a qcow2, a vmdk, inside a
// partition ([Section]) or nowhere yet ([Join]). Every conversion goes through
// that interface, so a new format is one file and one line in [Formats].
//
// What it does not do: it never mounts, never runs a program, never looks into
// file systems, and never opens a file that the caller did not name or allow.
// A format is what the caller says; only [Detect] looks at bytes to guess one.
//
//   - disk.go, raw.go, qcow2*.go, vmdk*.go, vdi.go, vhd*.go, blocks.go: the formats
//   - pump.go, convert.go: the one converter, which knows no format
//   - table.go, mbr.go, gpt.go, layout.go, assemble.go: partition tables
package disk

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// State says what a part of an image holds.
type State uint8

// The states. Zero and Hole both read as zero bytes; a Hole takes no room in the
// file, a Zero part is recorded as zero.
const (
	Data State = iota
	Zero
	Hole
)

// String returns "data", "zero" or "hole".
func (s State) String() string {
	switch s {
	case Data:
		return "data"
	case Zero:
		return "zero"
	}
	return "hole"
}

// Extent is a part of an image with one state. Start and Length are bytes.
type Extent struct {
	Start, Length int64
	State         State
}

// End is the offset after the last byte of e.
func (e Extent) End() int64 { return e.Start + e.Length }

// Image is an open disk image. Its methods may be called concurrently, except Close.
type Image interface {
	io.ReaderAt
	io.Closer
	// Size is the virtual size in bytes.
	Size() int64
	// Extent returns a run of one state that starts at off and is at least one
	// byte long; the next run may have the same state. At or after the end of the
	// image, and for negative offsets, the error is io.EOF.
	Extent(off int64) (Extent, error)
}

// Format is a container format for disk images.
type Format interface {
	// Name is the format's name in build files: "qcow2".
	Name() string
	// Extensions are the customary endings of file names, without the dot.
	Extensions() []string
	// Probe reports whether head, the first bytes of a file, look like the format.
	Probe(head []byte) bool
	// Open reads the image in f. The image owns f from then on; after an error
	// the caller still does. Files that f refers to are looked for beside f.Name().
	Open(f *os.File, o OpenOptions) (Image, error)
	// Write fills the empty file w with src. It does not close or sync w.
	Write(ctx context.Context, w *os.File, src Image, o WriteOptions) error
}

// Backing names the image that lies under a copy-on-write image.
type Backing struct {
	Path   string // relative paths start at the directory of the image above
	Format string // of the file at Path; empty only where an image records none

	// Backing names the image under the one at Path, if that is itself a
	// copy-on-write image, and so on down the chain.
	Backing *Backing
}

// OpenOptions says what opening an image may do beyond reading its own file.
// The zero value allows nothing.
type OpenOptions struct {
	// Backing opens the image under a copy-on-write image. It is given what the
	// image records, which is foreign data: see BackedBy for a safe choice. Where
	// it is nil an image that has a backing file is refused.
	Backing func(recorded Backing) (Image, error)

	// Extents allows a vmdk descriptor to open the extent files that it names, in
	// its own directory or beneath it.
	Extents bool

	// Extent gives the path of the file to open for an extent that a vmdk
	// descriptor calls name, instead of the file of that name beside it.
	Extent func(name string) (path string, err error)

	// MaxSize bounds the virtual size in bytes; 0 stands for 1 PiB. A few bytes can
	// claim to be any number of zeros.
	MaxSize int64
}

// defaultMaxSize is 1 PiB, more than file systems for raw images hold.
const defaultMaxSize = 1 << 50

// WriteOptions says how an image is written. The zero value is always valid.
type WriteOptions struct {
	// Compress is "", "zlib" or "zstd". Only qcow2 knows the choice.
	Compress string
	// Subformat of a vmdk: "" or "monolithicSparse", or "streamOptimized"; of a
	// vhd: "" or "dynamic", or "fixed".
	Subformat string
	// Adapter is the controller that a vmdk names: "lsilogic" (the default),
	// "buslogic", "ide" or "legacyESX".
	Adapter string
	// Name is the file name that a vmdk records; by default that of the file written.
	Name string
	// Backing makes a qcow2 that holds only what differs from this image.
	Backing *Backing
	// Progress is called now and then, never concurrently, with bytes of the
	// virtual size that are done and in all.
	Progress func(done, total int64)
	// Sync makes Convert wait until file and directory are on stable storage.
	Sync bool
}

// Formats returns all formats.
func Formats() []Format {
	return []Format{raw{}, qcow2{}, vmdk{}, vdi{}, vhd{}, vhdx{}}
}

// Lookup returns the format called name. The error lists the known ones.
func Lookup(name string) (Format, error) {
	var names []string
	for _, f := range Formats() {
		if f.Name() == name {
			return f, nil
		}
		names = append(names, f.Name())
	}
	sort.Strings(names)
	return nil, fmt.Errorf("unknown format %q (have %s)%s", name, strings.Join(names, ", "), suggest(name, names))
}

// Open opens the image at path, which is in the given format, whatever its bytes
// look like. Only if format is empty it is guessed, as Detect does.
func Open(path, format string, o OpenOptions) (Image, error) {
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
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	img, err := f.Open(file, o)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if most := cmp.Or(o.MaxSize, defaultMaxSize); img.Size() > most {
		err := fmt.Errorf("%s: the image claims to have %d bytes, more than the %d that are allowed (OpenOptions.MaxSize)", path, img.Size(), most)
		img.Close()
		return nil, err
	}
	return img, nil
}

// Detect guesses the format of the file at path by its first bytes. What is no
// other format is raw. It is meant for files a user names on the command line:
// whoever wrote the file chooses the answer.
func Detect(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	for _, f := range Formats() {
		if f.Probe(head[:n]) {
			return f.Name(), nil
		}
	}
	return raw{}.Name(), nil
}

// BackedBy returns a function for OpenOptions.Backing that opens the file at
// path in the given format, whatever the image above records. The option o is
// for the backing image itself, so that chains of any length can be declared.
func BackedBy(path, format string, o OpenOptions) func(Backing) (Image, error) {
	return func(Backing) (Image, error) {
		if format == "" {
			return nil, fmt.Errorf("backing file %s: no format declared", path)
		}
		return Open(path, format, o)
	}
}

// Open opens the image that b names, and those under it that b.Backing names.
// A relative path starts at the directory of the image at above.
func (b Backing) Open(above string) (Image, error) {
	if b.Format == "" {
		return nil, fmt.Errorf("backing file %s: no format declared", b.Path)
	}
	at := b.Path
	if !filepath.IsAbs(at) {
		at = filepath.Join(filepath.Dir(above), at)
	}
	var o OpenOptions
	if b.Backing != nil {
		o.Backing = func(Backing) (Image, error) { return b.Backing.Open(at) }
	}
	return Open(at, b.Format, o)
}

// clip bounds a read of n bytes at off by the size of an image. It returns how
// many bytes can be read, and io.EOF if that is fewer than n.
func clip(n int, off, size int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	if int64(n) > size-off {
		return int(size - off), io.EOF
	}
	return n, nil
}
