// Package image has the operations that make disk images and work on them, and
// the actions behind them. It hides how an image comes to be in the format that
// a step needs: which format the name of a file declares, that an overlay which
// nothing has written to stands for the image below it, and the step that is
// put between where an image has to be raw.
//
// It knows no format, file system or partition table itself; those are packages
// below engine/disk and engine/fsys. It runs nothing in an image.
//
//	Image        image(): new with a file system, or a source made raw; see FileSystem
//	Convert      convert(), another format
//	Overlay      overlay(), a qcow2 that holds only differences; see Beneath
//	Part, Disk   part() and disk(), a disk put together from images
//	Partition    partition(), one taken out of a disk
//	Files        files(), files out of an image
//	Resize       resize(), and Shrink, shrink()
//	UKI          uki(), a unified kernel image; BootFiles, boot_files(), those of a boot loader
//	Verity       verity(), the hash tree of dm-verity
//	InputFormat  in which format an operation finds an input; OpenInput opens it
//	Actions      the kinds of all actions
package image
