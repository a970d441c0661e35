package fsys

import (
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/vfat"
)

// Least is the smallest size in bytes that an empty file system of the kind
// "ext4", "vfat" or "swap" can have; 0 where there is no such bound. More may
// be needed, depending on the options.
func Least(kind string) int64 {
	switch kind {
	case "ext4":
		return ext4.Least
	case "vfat":
		return vfat.Track * vfat.Sector
	case "swap":
		return swap.Min * swap.Page
	}
	return 0
}
