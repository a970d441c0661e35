package repo

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// forEach calls fn for every element of list and its index, at most limit calls
// at a time. It returns the first error, which cancels the context of the other
// calls, when all have returned.
func forEach[T any](ctx context.Context, limit int, list []T, fn func(ctx context.Context, i int, element T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i, element := range list {
		g.Go(func() error { return fn(ctx, i, element) })
	}
	return g.Wait()
}
