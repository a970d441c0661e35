package disk

import (
	"bytes"
	"context"
	"errors"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/internal/pump"
)

// errDifferent ends the walk at the first difference.
var errDifferent = errors.New("different")

// piece is what is compared at a time, in bytes.
const piece = 1 << 20

// Compare returns the first offset in bytes at which a and b differ, or -1 if
// they are the same. The shorter one counts as if zeros followed it. What both
// know to be zero is not read.
func Compare(ctx context.Context, a, b image.Image) (int64, error) {
	first, second := make([]byte, piece), make([]byte, piece)
	size := max(a.Size(), b.Size())
	both := pump.Overlaid{Top: image.Section(a, 0, size), Under: image.Section(b, 0, size)}
	different := int64(-1)
	err := pump.Walk(ctx, both, 1, piece, func(off, length int64) error {
		x, y := first[:length], second[:length]
		if err := image.ReadPadded(both.Top, x, off); err != nil {
			return err
		}
		if err := image.ReadPadded(both.Under, y, off); err != nil {
			return err
		}
		if bytes.Equal(x, y) {
			return nil
		}
		for i := range x {
			if x[i] != y[i] {
				different = off + int64(i)
				return errDifferent
			}
		}
		return nil
	})
	if err == errDifferent {
		err = nil
	}
	return different, err
}
