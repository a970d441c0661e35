package repo

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestRemovedMeanwhile lets another machine take something out, and collect
// it, after this one has read the log: what is missing then is no damage.
func TestRemovedMeanwhile(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, r *Repo, v Version, o Object) error{
		"look up": func(t *testing.T, r *Repo, _ Version, _ Object) error {
			_, err := r.LookupStep(t.Context(), "key")
			return gone(err)
		},
		"fetch": func(t *testing.T, r *Repo, _ Version, o Object) error {
			_, err := r.Fetch(t.Context(), o, filepath.Join(t.TempDir(), "object"), PullOptions{})
			return gone(err)
		},
		"pull": func(t *testing.T, r *Repo, v Version, _ Object) error {
			var id fileID
			_, _, err := r.described(t.Context(), v, &id)
			return gone(r.unlessGone(t.Context(), id, err))
		},
		"collect": func(t *testing.T, r *Repo, _ Version, _ Object) error {
			return r.collect(t.Context(), 0, &CleanReport{})
		},
		"check": func(t *testing.T, r *Repo, _ Version, _ Object) error {
			damage, err := r.examine(t.Context(), true)
			if len(damage) > 0 {
				t.Errorf("it took what was removed for damage: %+v", damage)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s site) {
				r := s.create(t)
				v, _ := push(t, r, "web", sample(t, 1, 200))
				push(t, r, "db", sample(t, 2, 200))
				if _, err := r.PublishStep(t.Context(), "key", nil, []StepFile{{Name: "root", Path: sample(t, 3, 200)}}); err != nil {
					t.Fatal(err)
				}
				slow, other := s.elsewhere(t), s.elsewhere(t)
				step, err := s.elsewhere(t).LookupStep(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Remove(t.Context(), v); err != nil {
					t.Fatal(err)
				}
				if report, err := other.Clean(t.Context(), CleanOptions{Keep: -1, Steps: 0}); err != nil || report.Files < 3 {
					t.Fatalf("%+v, %v", report, err)
				}
				if err := act(t, slow, v, step.Objects[0]); err != nil {
					t.Error(err)
				}
				if list := intact(t, s.elsewhere(t)); len(list) != 1 {
					t.Errorf("%+v", list)
				}
			})
		})
	}
}

// gone is nil for an error that says what was wanted is not there.
func gone(err error) error {
	if err == nil {
		return errors.New("it is still to be had")
	}
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
		return nil
	}
	return err
}
