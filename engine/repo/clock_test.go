package repo

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
)

// skewed is a tree whose server has another time.
type skewed struct {
	*backend.Dir
	by time.Duration
}

// skewedInfo has the server's time.
type skewedInfo struct {
	fs.FileInfo
	by time.Duration
}

func (i skewedInfo) ModTime() time.Time { return i.FileInfo.ModTime().Add(i.by) }

func (s skewed) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	info, err := s.Dir.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return skewedInfo{info, s.by}, nil
}

func (s skewed) List(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	infos, err := s.Dir.List(ctx, dir)
	for i := range infos {
		infos[i] = skewedInfo{infos[i], s.by}
	}
	return infos, err
}

// shift moves the time of every file below dir.
func shift(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := time.Now().Add(by)
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestServersClock collects where the server's time is a year from this
// machine's: only the server's says how old a file is. What another machine is
// sending stays, whatever that one's clock says.
func TestServersClock(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, by := range map[string]time.Duration{"ahead": year, "behind": -year, "right": 0} {
		t.Run(name, func(t *testing.T) {
			s := kinds()[0].make(t)
			r := s.create(t)
			r.files = skewed{r.files.(*backend.Dir), by}
			image := noise(t, 1, 160<<20)
			interrupted(t, s, s.again(t), image)
			shift(t, s.opts.State, by) // the other machine's clock is as far off
			o := CleanOptions{Keep: -1, Steps: -1, Grace: 24 * time.Hour}
			shift(t, s.dir, -23*time.Hour)
			if report, err := r.Clean(t.Context(), o); err != nil || report.Files > 0 {
				t.Errorf("files that are 23 hours old: %+v, %v", report, err)
			}
			if _, tr := push(t, s.again(t), "web", image); tr.Reused < 32<<20 {
				t.Errorf("the push did not resume: %+v", tr)
			}
			interrupted(t, s, s.again(t), noise(t, 2, 160<<20))
			shift(t, s.dir, -25*time.Hour)
			if report, err := r.Clean(t.Context(), o); err != nil || report.Files == 0 {
				t.Errorf("files that are 25 hours old: %+v, %v", report, err)
			}
			shift(t, s.dir, 25*time.Hour) // the server's clock was put back
			if report, err := r.Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); err != nil || report.Files > 0 {
				t.Errorf("files of tomorrow: %+v, %v", report, err)
			}
			intact(t, s.elsewhere(t))
		})
	}
}
