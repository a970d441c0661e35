package disk

import (
	"context"
	"fmt"
	"sort"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

// joinParts returns the disk that Assemble writes. Nothing is copied; closing the
// disk leaves the contents open.
func joinParts(t *partition.Table, contents map[int]image.Image, bootcode []byte) (image.Image, error) {
	chunks, err := t.Encode(t.Size)
	if err != nil {
		return nil, err
	}
	if len(bootcode) > partition.BootCode {
		return nil, fmt.Errorf("boot code of %d bytes (there is room for %d)", len(bootcode), partition.BootCode)
	}
	j := &image.Joined{Length: t.Size}
	if len(bootcode) > 0 {
		chunks = append(chunks, image.Chunk{Bytes: bootcode})
	}
	for _, c := range chunks {
		j.Parts = append(j.Parts, image.Part{Start: c.At, Length: int64(len(c.Bytes)), Img: image.Bytes(c.Bytes)})
	}
	for number, img := range contents {
		p, err := partOf(t, number, img)
		if err != nil {
			return nil, err
		}
		j.Parts = append(j.Parts, p)
	}
	sort.Slice(j.Parts, func(a, b int) bool { return j.Parts[a].Start < j.Parts[b].Start })
	return j, nil
}

// partOf says where the contents of a partition go.
func partOf(t *partition.Table, number int, img image.Image) (image.Part, error) {
	p, err := t.Find(fmt.Sprint(number))
	if err != nil {
		return image.Part{}, err
	}
	if p.Extended() {
		return image.Part{}, fmt.Errorf("partition %d is an extended partition: it can't have contents", number)
	}
	if img.Size() > p.Length {
		return image.Part{}, fmt.Errorf("partition %d has %d bytes, its contents %d", number, p.Length, img.Size())
	}
	return image.Part{Start: p.Start, Length: p.Length, Img: img}, nil
}

// Assemble writes a disk of t.Size bytes to a sparse raw file, as Convert does: the
// table t, in the partitions with the given numbers these contents, which must
// fit, and at most 440 bytes of boot code at its start. The rest is a hole.
func Assemble(ctx context.Context, dst string, t *partition.Table, contents map[int]image.Image, bootcode []byte) error {
	img, err := joinParts(t, contents, bootcode)
	if err != nil {
		return fmt.Errorf("write %s: %w", dst, err)
	}
	return Convert(ctx, img, dst, "raw", image.WriteOptions{})
}
