package tree

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Below is content that lies in the directory dir, a relative slash path, of a root directory.
// This and what is between has the time at; dir has the attributes that were those of the
// root.
func Below(dir string, at time.Time, content Content) Content {
	return below{content, strings.Split(dir, "/"), at}
}

type below struct {
	Content
	names []string
	at    time.Time
}

func (b below) Load(ctx context.Context, scratch string) (*Tree, error) {
	t, err := b.Content.Load(ctx, scratch)
	if err != nil {
		return nil, err
	}
	dir := t.Root
	for _, name := range slices.Backward(b.names) {
		up := NewDir(b.at)
		up.Entries = []Entry{{name, dir}}
		up.Links = 3 // its name, its ".", and the directory's ".."
		dir = up
	}
	return &Tree{Root: dir, implied: t.implied}, nil
}
