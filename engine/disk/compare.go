package disk

import (
	"bytes"
	"context"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
)

// piece is what is compared at a time, in bytes.
const piece = 1 << 20

// Compare returns the first offset in bytes at which a and b differ, or -1 if
// they are the same. The shorter one counts as if zeros followed it. What both
// know to be zero is not read.
func Compare(ctx context.Context, a, b image.Image) (int64, error) {
	first, second := make([]byte, piece), make([]byte, piece)
	size := max(a.Size(), b.Size())
	both := pump.Overlaid{Image: image.Section(a, 0, size), Under: image.Section(b, 0, size)}
	for e, err := range pump.Walk(ctx, both, 1, piece) {
		if err != nil {
			return -1, err
		}
		x, y := first[:e.Length], second[:e.Length]
		if err := image.ReadPadded(both, x, e.Start); err != nil {
			return -1, err
		}
		if err := image.ReadPadded(both.Under, y, e.Start); err != nil {
			return -1, err
		}
		if bytes.Equal(x, y) {
			continue
		}
		for i := range x {
			if x[i] != y[i] {
				return e.Start + int64(i), nil
			}
		}
	}
	return -1, nil
}
