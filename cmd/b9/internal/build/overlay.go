package build

import (
	"context"
	"errors"
	"slices"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
)

// backing lists the images that the graph's overlays stand on.
func backing(g *lang.Graph) []engine.Ref {
	var refs []engine.Ref
	for _, ref := range Refs(g) {
		if below, _, ok := image.Beneath(ref); ok {
			refs = append(refs, below)
		}
	}
	return refs
}

// resultImage is the open image of a result. Close gives up the paths, too,
// that the result and what it stands on were exposed at.
type resultImage struct {
	disk.Image
	exposed []*engine.Exposed
}

// Close implements disk.Image.
func (r *resultImage) Close() error {
	var errs []error
	if r.Image != nil {
		errs = append(errs, r.Image.Close())
	}
	for _, x := range r.exposed {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// Open opens an image that the build made. An overlay may open the image that its
// call in the build file named, whatever path it records.
func (b *Built) Open(ctx context.Context, ref engine.Ref, format string) (disk.Image, error) {
	r := &resultImage{}
	if err := b.open(ctx, r, ref, format); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (b *Built) open(ctx context.Context, r *resultImage, ref engine.Ref, format string) error {
	var o disk.OpenOptions
	if below, format, ok := image.Beneath(ref); ok {
		under, err := b.expose(ctx, r, below)
		if err != nil {
			return err
		}
		o.Backing = disk.BackedBy(under, format, disk.OpenOptions{})
	}
	path, err := b.expose(ctx, r, ref)
	if err != nil {
		return err
	}
	r.Image, err = disk.Open(path, format, o)
	return err
}

// expose gives a result a path until r is closed.
func (b *Built) expose(ctx context.Context, r *resultImage, ref engine.Ref) (string, error) {
	x, err := b.Result.Artifact(ref).Expose(ctx)
	if err != nil {
		return "", err
	}
	r.exposed = append(r.exposed, x)
	return x.Path, nil
}

// BesideOverlay reports whether ref is what an overlay of the same target stands on.
func BesideOverlay(t *lang.Target, ref engine.Ref) bool {
	over := ref.Node.Ref("overlay")
	_, _, ok := image.Beneath(over)
	return ok && ref != over && slices.Contains(t.Refs, over)
}
