package disk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/sparse"
)

// Replace puts the bytes of img into one partition of the raw disk at path,
// which is found as Table.Find does; the rest of the partition becomes zero.
// What does not fit is refused before anything is written. The disk is changed in
// place: after an error or a cancelled context later on, the partition holds
// some of the new bytes. img must not lie in the disk itself.
func Replace(ctx context.Context, path, selector string, img image.Image) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("replace partition %s of %s: %w", selector, path, err)
		}
	}()
	p, err := replaceable(f, selector, img.Size())
	if err != nil {
		return err
	}
	if err := sparse.Zero(ctx, f, p.Start, p.Length); err != nil {
		return err
	}
	return pump.Copy(ctx, f, p.Start, img, nil)
}

// replaceable finds a partition that has room for size bytes.
func replaceable(f *os.File, selector string, size int64) (*partition.Partition, error) {
	disk, err := blob.FromFile(f)
	if err != nil {
		return nil, err
	}
	t, err := partition.ReadTable(disk, 0)
	if err != nil {
		return nil, err
	}
	p, err := t.Find(selector)
	switch {
	case err != nil:
		return nil, err
	case p.Extended():
		return nil, errors.New("it is an extended partition: it can't have contents")
	case p.Start == 0:
		return nil, errors.New("it begins with the partition table: write the whole disk instead")
	case size > p.Length:
		return nil, fmt.Errorf("it has %d bytes, the new contents %d", p.Length, size)
	case t.Backup != "":
		return nil, fmt.Errorf("the table is read from its backup, and %s: mend it first (gdisk, or sgdisk -e)", t.Backup)
	case p.End() > disk.Size():
		return nil, fmt.Errorf("it ends at %d, after the end of the disk of %d bytes", p.End(), disk.Size())
	}
	return p, t.Alone(p)
}
