package disk

import "b9.build/b9/engine/disk/image"

// What this package's functions take and return. Package image defines it, which
// the formats import, too; callers need to import only this package.
type (
	// Image is an open disk image.
	Image = image.Image
	// Backing names the image that lies under a copy-on-write image.
	Backing = image.Backing
	// OpenOptions says what opening an image may do.
	OpenOptions = image.OpenOptions
	// WriteOptions says how an image is written.
	WriteOptions = image.WriteOptions
)

// Section is length bytes of img from off on, as an image; closing it leaves
// img open.
func Section(img Image, off, length int64) Image { return image.Section(img, off, length) }
