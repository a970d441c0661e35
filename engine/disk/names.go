package disk

import "b9.build/b9/engine/disk/image"

// What this package's functions take and return, under the names that its
// callers use; package image defines it.
type (
	// Image is an open disk image.
	Image = image.Image
	// Format is a container format for disk images.
	Format = image.Format
	// Backing names the image that lies under a copy-on-write image.
	Backing = image.Backing
	// OpenOptions says what opening an image may do.
	OpenOptions = image.OpenOptions
	// WriteOptions says how an image is written.
	WriteOptions = image.WriteOptions
	// Report is what a check found.
	Report = image.Report
	// Extent is a part of an image with one state: Data, Zero or Hole.
	Extent = image.Extent
)

// The states of an extent.
const (
	Data = image.Data
	Zero = image.Zero
	Hole = image.Hole
)

// Section is length bytes of img from off on, as an image; closing it leaves
// img open.
func Section(img Image, off, length int64) Image { return image.Section(img, off, length) }
