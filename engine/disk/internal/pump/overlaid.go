package pump

import "b9.build/b9/engine/disk/image"

// Overlaid is the image top, with data where top or the image under it has: what
// must be looked at to find out how they differ.
type Overlaid struct {
	image.Image // the top
	Under       image.Image
}

func (e Overlaid) Extent(off int64) (image.Extent, error) {
	a, err := e.Image.Extent(off)
	if err != nil || off >= e.Under.Size() {
		return a, err
	}
	b, err := e.Under.Extent(off)
	if err != nil {
		return a, err
	}
	a.Length = min(a.Length, b.Length)
	a.State = min(a.State, b.State) // image.Data is the least
	return a, nil
}
