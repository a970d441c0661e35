package disk

import (
	"context"
	"fmt"
	"sort"
)

// Join returns a disk of t.Size bytes with the table t and, in the partitions
// with the given numbers, these contents; the rest is a hole. At most 440 bytes
// of boot code go to its start. Nothing is copied; closing the disk leaves the
// contents open.
func Join(t *Table, contents map[int]Image, bootcode []byte) (Image, error) {
	chunks, err := t.encode(t.Size)
	if err != nil {
		return nil, err
	}
	if len(bootcode) > mbrCode {
		return nil, fmt.Errorf("boot code of %d bytes (there is room for %d)", len(bootcode), mbrCode)
	}
	j := &joined{size: t.Size}
	if len(bootcode) > 0 {
		chunks = append(chunks, chunk{0, bootcode})
	}
	for _, c := range chunks {
		j.parts = append(j.parts, part{start: c.at, length: int64(len(c.bytes)), img: memory(c.bytes)})
	}
	for number, img := range contents {
		p, err := partOf(t, number, img)
		if err != nil {
			return nil, err
		}
		j.parts = append(j.parts, p)
	}
	sort.Slice(j.parts, func(a, b int) bool { return j.parts[a].start < j.parts[b].start })
	return j, nil
}

// partOf says where the contents of a partition go.
func partOf(t *Table, number int, img Image) (part, error) {
	p, err := t.Find(fmt.Sprint(number))
	if err != nil {
		return part{}, err
	}
	if p.Extended() {
		return part{}, fmt.Errorf("partition %d is an extended partition: it can't have contents", number)
	}
	if img.Size() > p.Length {
		return part{}, fmt.Errorf("partition %d has %d bytes, its contents %d", number, p.Length, img.Size())
	}
	return part{start: p.Start, length: p.Length, img: img}, nil
}

// Assemble writes the disk that Join describes to a sparse raw file, as Convert does.
func Assemble(ctx context.Context, dst string, t *Table, contents map[int]Image, bootcode []byte) error {
	img, err := Join(t, contents, bootcode)
	if err != nil {
		return fmt.Errorf("write %s: %w", dst, err)
	}
	return Convert(ctx, img, dst, "raw", WriteOptions{})
}
