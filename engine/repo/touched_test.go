package repo

import (
	"errors"
	"os"
	"testing"
	"time"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// TestTouchedMeanwhile pushes a file that gets another time while it is read, as
// an object of a store does when somebody uses it: what its content has to be
// decides, where that is known.
func TestTouchedMeanwhile(t *testing.T) {
	t.Parallel()
	image := sample(t, 4, 3000)
	right, _, err := digest.Path(t.Context(), image, 0)
	if err != nil {
		t.Fatal(err)
	}
	var second int64 = 1000 // no touch gives a time that was there before
	for _, c := range []struct {
		name   string
		digest Digest
		ok     bool
	}{
		{"known", right, true},
		{"not known", Digest{}, false},
		{"another", Digest{1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := kinds()[0].make(t)
			n := 0
			s.opts.Progress = func(Progress) {
				n, second = n+1, second+1
				if err := os.Chtimes(image, time.Time{}, time.Unix(second, 0)); err != nil {
					t.Error(err)
				}
			}
			_, _, err := s.create(t).Push(t.Context(), PushSpec{Name: "web", Path: image, Digest: c.digest})
			if n == 0 || c.ok != (err == nil) || err != nil && !errors.Is(err, sparse.ErrChanged) {
				t.Errorf("after %d touches: %v", n, err)
			}
		})
	}
}
