package image

import (
	"errors"
	"fmt"
	"strings"

	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
)

// CheckMountable refuses a raw image of swap space or of a disk, which hold no file
// system themselves. The error says which partitions of a disk do. Whether what is
// neither can be mounted is for those to say who mount it.
func CheckMountable(path string) error {
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	switch info.Type {
	case "":
		return notMountable(path)
	case "swap":
		return errors.New("it is swap space, which holds no files: give the partition of the disk that has the file system, with partition(DISK, NUMBER)")
	}
	return nil
}

// notMountable says what an image without a file system is.
func notMountable(path string) (err error) {
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	table, none := partition.ReadTable(img, 0)
	if none != nil {
		return nil
	}
	var have []string
	for _, p := range table.Partitions {
		section := disk.Section(img, p.Start, p.Length)
		if info, err := fsys.ProbeAt(section, section.Size()); err == nil && info.Type != "" && info.Type != "swap" && !p.Extended() {
			have = append(have, fmt.Sprintf("partition(IMAGE, %d) is %s", p.Number, info.Type))
		}
	}
	if len(have) == 0 {
		return errors.New("it is a disk, and partition() finds no file system in its partitions")
	}
	return fmt.Errorf("it is a disk, of which one partition is mounted at a time: %s", strings.Join(have, ", "))
}
