package repo

import (
	"errors"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// TestWhatIsRottenIsNotPublished: a file that does not hold what its digest says is
// read in whole and refused, as an image and as an object of a step, and nothing of it is
// visible, neither where all of it has to be sent nor where most of it is there.
func TestWhatIsRottenIsNotPublished(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 1, 600)
		right, err := hashOf(t, image)
		if err != nil {
			t.Fatal(err)
		}
		rotten := change(t, image, 300)
		refused := func(err error) {
			t.Helper()
			if !errors.Is(err, ErrSource) || !errors.Is(err, sparse.ErrChanged) || !strings.Contains(err.Error(), "instead of "+right.String()) {
				t.Errorf("%v", err)
			}
		}
		for range 2 {
			_, _, err = r.Push(t.Context(), PushSpec{Name: "web", Path: rotten, Digest: right})
			refused(err)
			_, err = r.PublishStep(t.Context(), "key", nil, []StepFile{{Name: "root", Path: rotten, Digest: right}})
			refused(err)
			if _, err := s.elsewhere(t).LookupStep(t.Context(), "key"); !errors.Is(err, ErrNotFound) {
				t.Errorf("the step is there: %v", err)
			}
			if left := files(t, s, "tmp"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			push(t, r, "sound", image)
		}
		if list := intact(t, s.elsewhere(t)); len(list) != 1 || list[0].Digest != right {
			t.Errorf("%+v", list)
		}
	})
}

// hashOf is the digest of a file, by the definition of the store.
func hashOf(t *testing.T, path string) (Digest, error) {
	t.Helper()
	f, info, err := sparse.Open(path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	return digest.Content(t.Context(), f, info.Size(), 1)
}
