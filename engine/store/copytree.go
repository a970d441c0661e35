package store

import (
	"context"
	"fmt"
)

// CopyTree makes the directory dst, which must be absent or empty, a copy of
// the source tree src, with what [Store.TreeDigest] counts and nothing else: relative
// paths, types, permissions, contents and the texts of symbolic links. All of
// it belongs to the caller and has the time 0, as after [Store.Extract] of the
// same tree. skip is as for [Store.TreeDigest]. After an error the copy is incomplete.
func CopyTree(ctx context.Context, src, dst string, skip func(rel string, dir bool) bool) error {
	nodes, err := walk(ctx, src, skip)
	if err != nil {
		return fmt.Errorf("copy tree %s: %w", src, err)
	}
	for i, e := range newManifest(nodes, false).Entries {
		nodes[i].entry = e
	}
	x := extractor{nodes: nodes, dst: dst, workers: defaultWorkers()}
	if err := x.run(ctx); err != nil {
		return spaceError(dst, fmt.Errorf("copy tree %s to %s: %w", src, dst, err))
	}
	return nil
}
