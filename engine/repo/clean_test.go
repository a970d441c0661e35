package repo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/internal/seedtest"
)

// intact fails the test unless every version can be had in whole.
func intact(t *testing.T, r *Repo) []Version {
	t.Helper()
	if damage, err := r.Check(t.Context(), true); err != nil || len(damage) > 0 {
		t.Fatalf("check: %+v, %v", damage, err)
	}
	list, err := r.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		pull(t, r, v)
	}
	return list
}

func files(t *testing.T, s site, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestClean(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		for i := range 4 {
			push(t, r, "web", sample(t, uint64(10+i), 300))
		}
		push(t, r, "db", sample(t, 2, 100))
		report, err := r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: -1, Grace: time.Hour})
		if err != nil || len(report.Removed) != 2 || report.Files != 0 {
			t.Fatalf("with a grace of an hour: %+v, %v", report, err)
		}
		before := len(files(t, s, "packs"))
		report, err = r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: -1})
		if err != nil || len(report.Removed) != 0 || report.Files == 0 || report.Bytes == 0 {
			t.Fatalf("without grace: %+v, %v", report, err)
		}
		if after := len(files(t, s, "packs")); after >= before {
			t.Errorf("%d packs before, %d after", before, after)
		}
		if list := intact(t, s.elsewhere(t)); len(list) != 3 {
			t.Errorf("left: %+v", list)
		}
		if report, err := r.Clean(t.Context(), CleanOptions{Keep: 0, Steps: 0}); err != nil || len(report.Removed) != 3 {
			t.Fatalf("everything: %+v, %v", report, err)
		}
		if left := files(t, s, "packs"); len(left) > 0 {
			t.Errorf("left when nothing is: %v", left)
		}
	})
}

// TestCleanBesidePush lets a collection run between a push's upload and its
// line in the log.
func TestCleanBesidePush(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 1, 500)
		v, _ := push(t, r, "web", image)
		cleaner := s.elsewhere(t)
		changed := change(t, image, 5)
		cleaned := false
		p, err := r.newPush(t.Context(), "web", "web", "", []StepFile{{Name: "web", Path: changed}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.publish(t.Context(), func(m *manifest) (line, *entry, error) {
			if !cleaned {
				cleaned = true
				if err := cleaner.Remove(t.Context(), v); err != nil {
					t.Fatal(err)
				}
				if report, err := cleaner.Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); err != nil || report.Files < 2 { // the new pack may still be on its way
					t.Fatalf("%+v, %v", report, err)
				}
			}
			next := PushSpec{Name: "web"}.version(&m.objects[0])
			return line{Op: opImage, Image: &next}, nil, nil
		})
		p.finish(err == nil)
		if err != nil {
			t.Fatal(err)
		}
		list := intact(t, s.elsewhere(t))
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		dst, _ := pull(t, s.elsewhere(t), list[0])
		sameFiles(t, dst, changed)
	})
}

// TestTwoPushersAndACleaner runs them at once. There are fewer collections in
// all than a push begins again, so that none can be outrun.
func TestTwoPushersAndACleaner(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 1, 300)
		done := make(chan error, 2)
		for n := range 2 {
			pusher := s.elsewhere(t)
			go func() {
				for i := range 8 {
					spec := PushSpec{Name: "web", Path: change(t, image, 10*n+i), Version: fmt.Sprintf("v%d.%d", n, i)}
					if _, _, err := pusher.Push(t.Context(), spec); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		moment := seedtest.Moments(t)
		for range maxTries - 1 {
			if _, err := r.Clean(t.Context(), CleanOptions{Keep: 3, Steps: -1}); err != nil {
				t.Error(err)
			}
			time.Sleep(moment(200 * time.Millisecond))
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if list := intact(t, s.elsewhere(t)); len(list) < 3 {
			t.Errorf("left: %+v", list)
		}
	})
}

func TestClockSkew(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := sample(t, 1, 50)
		for i, skew := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
			spec := PushSpec{Name: "web", Path: change(t, image, i), Created: time.Now().Add(skew)}
			if _, _, err := r.Push(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		list, err := r.List(t.Context(), "web")
		if err != nil || !list[0].Created.Before(list[1].Created) {
			t.Errorf("the version published last does not come first: %+v, %v", list, err)
		}
		if report, err := r.Clean(t.Context(), CleanOptions{Keep: 1, Steps: -1}); err != nil || len(report.Removed) != 1 || report.Removed[0].Digest != list[1].Digest {
			t.Errorf("%+v, %v", report, err)
		}
		intact(t, r)
	})
}

// harm is a way to damage a file of a repository.
type harm struct {
	name string
	do   func(t *testing.T, s site)
	path string // what is named
	what string
}

func harms() []harm {
	edit := func(dir string, fn func([]byte) []byte) func(*testing.T, site) {
		return func(t *testing.T, s site) {
			path := files(t, s, dir)[0]
			if err := os.WriteFile(path, fn(slurp(t, path)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
	}
	short := func(b []byte) []byte { return b[:len(b)-1] }
	return []harm{
		{"wrong block", edit("packs", flip(1000)), "packs/", ""},
		{"wrong index", edit("packs", flip(-3)), "packs/", "its index is not what its name says"},
		{"short pack", edit("packs", short), "packs/", ""},
		{"missing pack", func(t *testing.T, s site) { os.Remove(files(t, s, "packs")[0]) }, "packs/", "it is missing"},
		{"swapped packs", func(t *testing.T, s site) {
			p := files(t, s, "packs")
			a, b := slurp(t, p[0]), slurp(t, p[1])
			os.WriteFile(p[0], b, 0o644)
			os.WriteFile(p[1], a, 0o644)
		}, "packs/", ""},
		{"wrong manifest", edit("manifests", flip(30)), "manifests/", "its content is not what its name says"},
		{"short manifest", edit("manifests", short), "manifests/", ""},
		{"missing manifest", func(t *testing.T, s site) { os.Remove(files(t, s, "manifests")[0]) }, "manifests/", "it is missing"},
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	for _, h := range harms() {
		t.Run(h.name, func(t *testing.T) {
			each(t, func(t *testing.T, s site) {
				r := s.create(t)
				image := sample(t, 1, 2000)
				v, _ := push(t, r, "web", image)
				w, _ := push(t, r, "web", change(t, image, 7, 90))
				h.do(t, s)
				other := s.elsewhere(t)
				dst := filepath.Join(t.TempDir(), "pulled")
				_, err1 := other.Pull(t.Context(), v, dst, PullOptions{})
				_, err2 := other.Pull(t.Context(), w, dst, PullOptions{})
				err := errors.Join(err1, err2)
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), h.path) || !strings.Contains(err.Error(), h.what) {
					t.Errorf("pull: %v", err)
				}
				if _, err := os.Stat(dst); err == nil && err1 != nil && err2 != nil {
					t.Error("there is a file in spite of the damage")
				}
				damage, err := other.Check(t.Context(), true)
				if err != nil || len(damage) == 0 || !strings.HasPrefix(damage[0].Path, h.path) || len(damage[0].Hurts) == 0 {
					t.Errorf("check: %+v, %v", damage, err)
				}
			})
		})
	}
}

// TestCleanManySteps takes out more than fits into one write.
func TestCleanManySteps(t *testing.T) {
	t.Parallel()
	s := kinds()[0].make(t)
	r := s.create(t)
	var lines []line
	for n := range 300 {
		lines = append(lines, line{Op: opStep, StepKey: fmt.Sprint(n), Recipe: recipeRef{newFileID(nil), 1}})
	}
	if err := r.appendLog(t.Context(), lines...); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PublishStep(t.Context(), "last", nil, []StepFile{{Name: "root", Path: sample(t, 1, 10)}}); err != nil {
		t.Fatal(err)
	}
	report, err := r.Clean(t.Context(), CleanOptions{Keep: -1, Steps: 1})
	if err != nil || report.Steps != 300 {
		t.Errorf("%+v, %v", report, err)
	}
	other := s.elsewhere(t)
	if _, err := other.LookupStep(t.Context(), "last"); err != nil {
		t.Error(err)
	}
	if _, err := other.LookupStep(t.Context(), "299"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a step that was taken out: %v", err)
	}
	intact(t, other)
}
