package repo

import "context"

// lanes keep pushes of one Repo from sending the same blocks twice. A push knows
// what is in the repository when it begins, and what others have sent meanwhile
// only when it begins the next time: of two that began together each would send
// all that they have in common, such as the steps of a chain, which are published
// while the build goes on. So the large ones follow each other. That loses no
// time, since one push fills the line.
//
// Small ones, which mostly wait for answers, wait for no other; what two of them
// may send twice is small, too.
type lanes struct{ large chan struct{} }

// largePush is from how many bytes of files, their holes included, a push is large.
const largePush = 256 << 10

func newLanes() lanes { return lanes{make(chan struct{}, 1)} }

// enter waits for the turn of a push of that many bytes. The push calls leave when
// it has ended.
func (l lanes) enter(ctx context.Context, size int64) (leave func(), err error) {
	if size < largePush {
		return func() {}, nil
	}
	select {
	case l.large <- struct{}{}:
		return func() { <-l.large }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
