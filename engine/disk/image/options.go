package image

import (
	"fmt"
	"io/fs"
	"slices"
)

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
	// image records, which is foreign data: see disk.BackedBy for a safe choice. Where
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
	// OpenBacking opens Backing for an image that is written to the path above.
	// disk.Convert sets it where it is nil; whoever calls Format.Write with a
	// Backing must set it.
	OpenBacking func(above string, b Backing) (Image, error)
	// Progress is called now and then, never concurrently, with bytes of the
	// virtual size that are done and in all.
	Progress func(done, total int64)
	// Sync makes Convert wait until file and directory are on stable storage.
	Sync bool
	// Mode is the permission bits of the file that Convert writes. Zero means 0666
	// less the umask.
	Mode fs.FileMode
}

// Option is an option of writing that only some formats know.
type Option string

// The options of writing that only some formats know.
const (
	Compression Option = "compression"
	Subformat   Option = "subformat"
	BackingFile Option = "backing file"
)

// Refuse returns an error if an option is set that format does not know; what it
// knows is in known.
func (o WriteOptions) Refuse(format string, known ...Option) error {
	for _, set := range []struct {
		option Option
		is     bool
	}{{Compression, o.Compress != ""}, {Subformat, o.Subformat != ""}, {BackingFile, o.Backing != nil}} {
		if set.is && !slices.Contains(known, set.option) {
			return fmt.Errorf("format %s has no %s", format, set.option)
		}
	}
	return nil
}
