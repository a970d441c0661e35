package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
)

// CleanOptions say what [Repo.Clean] keeps.
type CleanOptions struct {
	Keep  int // newest versions of each name; negative: all
	Steps int // steps published last; negative: all
	// Grace keeps files that nothing needs but that are younger, by the
	// server's clock alone, for an unfinished push may want them. It saves
	// work and is not needed for safety; 24 h is a good choice.
	Grace time.Duration
}

// CleanReport says what [Repo.Clean] removed and deleted.
type CleanReport struct {
	Removed []Version `json:"removed"` // oldest first
	Steps   int       `json:"steps"`   // taken out
	Files   int       `json:"files"`   // that nothing needed any more
	Bytes   int64     `json:"bytes"`   // of these files
}

// Clean removes the versions and steps that o does not keep, and then deletes
// the files that no version and no step needs. It is safe beside pushes: a push
// that relied on a deleted file sends it again. While the manifest of a version
// or step that stays can't be read, no file is deleted, for it might be needed.
func (r *Repo) Clean(ctx context.Context, o CleanOptions) (report CleanReport, err error) {
	defer wrap(&err, "clean %s", r.loc)
	if err := r.sync(ctx); err != nil {
		return report, err
	}
	var lines []line
	for _, e := range r.expired(o) {
		lines = append(lines, line{Op: opRemove, Removed: e.Recipe.ID})
		if e.Image != nil {
			report.Removed = append(report.Removed, *e.Image)
		} else {
			report.Steps++
		}
	}
	if err := r.appendLog(ctx, lines...); err != nil {
		return report, err
	}
	err = r.collect(ctx, o.Grace, &report)
	return report, err
}

// expired returns the entries that o does not keep: versions, oldest first, then
// steps.
func (r *Repo) expired(o CleanOptions) (list []*entry) {
	r.withView(func(v *view) {
		versions := map[string]int{} // so far, by name
		for _, e := range v.newest("") {
			versions[e.Image.Name]++
			if o.Keep >= 0 && versions[e.Image.Name] > o.Keep {
				list = append(list, e)
			}
		}
		slices.Reverse(list)
		if o.Steps >= 0 && len(v.steps) > o.Steps {
			list = append(list, v.newestSteps(len(v.steps))[o.Steps:]...)
		}
	})
	return list
}

// collect deletes the files that nothing needs.
//
// A server without locks can't keep pushes out meanwhile, so the order of the
// log decides. First the collection writes a list of the files that it is going
// to delete (doomed/), and appends a line that names the list. From then on a
// push counts only if it knew of this line when it began; and a push that knows
// of it relies on no file of the list, unless a version needs the file already.
// Then the collection reads the log again, and takes the files off the list that
// versions and steps before its line need. Nobody needs the others, now or
// later: they are deleted. A collection that dies in between leaves a list and
// files that the next one deletes.
//
// If another collection deletes a file that this one has to read, this one
// begins again with a new list: what it has read may not be true any more.
func (r *Repo) collect(ctx context.Context, grace time.Duration, report *CleanReport) error {
	for range maxTries {
		if err := r.collectOnce(ctx, grace, report); !errors.Is(err, errGone) {
			return err
		}
	}
	return errOutrun
}

func (r *Repo) collectOnce(ctx context.Context, grace time.Duration, report *CleanReport) error {
	needed, err := r.needed(ctx)
	if err != nil {
		return err
	}
	doomed, err := r.unused(ctx, needed, grace)
	if err != nil || len(doomed) == 0 {
		return err
	}
	line, err := r.writeDoomed(ctx, doomed)
	if err != nil {
		return err
	}
	if err := r.appendLog(ctx, line); err != nil {
		return err
	}
	if needed, err = r.needed(ctx); err != nil {
		return err
	}
	return r.deleteAll(ctx, slices.DeleteFunc(doomed, func(f unusedFile) bool { return needed[f.id] }), report)
}

// needed returns the manifests and packs of all versions and steps.
func (r *Repo) needed(ctx context.Context) (map[fileID]bool, error) {
	var live []*entry
	r.withView(func(v *view) { live = v.live() })
	manifests := make([]*manifest, len(live))
	err := forEach(ctx, atOnce, live, func(ctx context.Context, i int, e *entry) (err error) {
		if manifests[i], err = r.manifestOf(ctx, e.Recipe); errors.Is(err, ErrDamaged) {
			err = r.unlessGone(ctx, e.Recipe.ID, err)
		}
		if errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%s: %w; remove what is damaged first (b9 repo check lists it)", e.who(), err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	needed := map[fileID]bool{}
	for i, e := range live {
		needed[e.Recipe.ID] = true
		for _, p := range manifests[i].packs {
			needed[p.id] = true
		}
	}
	return needed, nil
}

// unusedFile is a file that may be deleted.
type unusedFile struct {
	path string
	id   fileID // zero for a temporary file
	size int64
}

// unused lists packs, manifests and temporary files that are not needed and
// at least grace old by the server's clock. What is no regular file was not made
// by b9 and stays.
func (r *Repo) unused(ctx context.Context, needed map[fileID]bool, grace time.Duration) ([]unusedFile, error) {
	now, err := backend.Now(ctx, r.files)
	if err != nil {
		return nil, err
	}
	var all []unusedFile
	for _, dir := range []string{"packs", "manifests", "tmp"} {
		files, err := r.files.List(ctx, dir)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			id, err := parseFileID(f.Name())
			if f.Mode().IsRegular() && (err == nil || dir == "tmp") && !needed[id] && now.Sub(f.ModTime()) >= grace {
				all = append(all, unusedFile{dir + "/" + f.Name(), id, f.Size()})
			}
		}
	}
	return all, nil
}

// writeDoomed writes the list of doomed files and returns the line for it.
func (r *Repo) writeDoomed(ctx context.Context, doomed []unusedFile) (line, error) {
	var b strings.Builder
	for _, f := range doomed {
		if f.id != (fileID{}) {
			b.WriteString(f.id.String() + "\n")
		}
	}
	id := newFileID([]byte(b.String()))
	if err := backend.Write(ctx, r.files, "doomed/"+id.String(), []byte(b.String())); err != nil {
		return line{}, err
	}
	return line{Op: opCollect, Doomed: id}, r.files.SyncDir(ctx, "doomed")
}

// deleteAll deletes files, several at a time. One that is gone is no error.
func (r *Repo) deleteAll(ctx context.Context, files []unusedFile, report *CleanReport) error {
	var mu sync.Mutex
	return forEach(ctx, atOnce, files, func(ctx context.Context, _ int, f unusedFile) error {
		err := r.files.Remove(ctx, f.path)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			report.Files++
			report.Bytes += f.size
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}
