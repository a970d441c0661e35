package fsys

// Least is the smallest size in bytes that an empty file system of the kind
// "ext4", "vfat" or "swap" can have; 0 where there is no such bound. More may
// be needed, depending on the options.
func Least(kind string) int64 {
	switch kind {
	case "ext4":
		return leastExt4
	case "vfat":
		return fatTrack * fatSector
	case "swap":
		return swapMin * swapPage
	}
	return 0
}
