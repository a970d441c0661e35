package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
)

// How a file is published, when it is this push's turn (lanes):
//
//  1. The log is read. How many collections it names by then is the push's epoch.
//  2. findKnown lists the blocks that are in packs of the repository.
//  3. The file is read once (scan). Blocks that are not listed go, in the
//     file's order, into frames that are compressed and packs that are sent
//     while the reading goes on; a pack is noted in a journal of this machine
//     before it is sent, so that a push that dies is resumed. Pushes of other
//     processes and machines that run meanwhile tell each other what they send (claims).
//  4. The manifest, which says in which packs the blocks are, is sent.
//  5. Directories are flushed, and a line with the epoch is appended to the
//     log. From this write on the version is visible.
//  6. The log is read again. The line does not count if a collection came
//     first, which may have deleted what the push relied on: then it begins
//     again, and sends only what is not there any more.

// maxTries bounds how often a push begins again because files were collected
// meanwhile; nothing that was sent and still is there is sent again.
const maxTries = 10

// errOutrun: a collection ran during each of the tries.
var errOutrun = errors.New("collections of unused files ran again and again meanwhile: run b9 clean-remote less often")

// Push publishes the file s.Path. What the repository holds is not sent
// again, nor what an interrupted push of this machine (see [Options].State)
// had sent. The version is visible once everything it needs is there and
// flushed; until then, and after an error, the repository is as it was. A
// version that exists with this content is returned with nothing sent; with
// another content the error wraps [ErrVersionTaken].
func (r *Repo) Push(ctx context.Context, s PushSpec) (v Version, t Transfer, err error) {
	defer wrap(&err, "push %s to %s", s.Name, r.loc)
	if err := s.check(); err != nil {
		return v, t, err
	}
	p, err := r.newPush(ctx, s.Name, s.Name, s.Parent, []StepFile{{Name: s.Name, Path: s.Path, Digest: s.Digest, Objects: s.Objects}})
	if err != nil {
		return v, t, err
	}
	published, err := p.publish(ctx, func(m *manifest) (line, *entry, error) {
		v := s.version(&m.objects[0])
		e, err := p.existing(v, s.Version == "")
		return line{Op: opImage, Image: &v}, e, err
	})
	if err == nil {
		v = *published.Image
	}
	return v, p.finish(err == nil), err
}

// check checks what takes no reading of the image.
func (s PushSpec) check() error {
	if err := ValidName(s.Name); err != nil {
		return err
	}
	if s.Version != "" {
		if err := ValidName(s.Version); err != nil {
			return fmt.Errorf("version: %w", err)
		}
	}
	return s.checkRelations()
}

// version describes the content that was read from s.Path.
func (s PushSpec) version(c *content) Version {
	v := Version{
		Name: s.Name, Version: s.Version, Digest: c.digest, Format: s.Format, Size: c.size, Data: c.data(),
		FileSystems: s.FileSystems, Key: s.Key, Origin: s.Origin, Created: s.Created, Parent: s.Parent,
	}
	if v.Created.IsZero() {
		v.Created = time.Now()
	}
	v.Created = v.Created.UTC().Truncate(time.Second)
	if v.Version == "" {
		v.Version = v.Created.Format("20060102-150405") + "-" + v.Digest.String()[3:11]
	}
	return v
}

// existing returns the published version that makes publishing v needless, or
// nil. With anyName that is the newest one, if it has the same content and
// format; else the one with v's version, which must have the same content.
func (p *pushing) existing(v Version, anyName bool) (found *entry, err error) {
	p.r.withView(func(w *view) {
		if newest := w.newest(v.Name); anyName && len(newest) > 0 && newest[0].Image.Digest == v.Digest && newest[0].Image.Format == v.Format {
			found = newest[0]
			return
		}
		found = w.versions[v.Ref()]
	})
	if found != nil && found.Image.Digest != v.Digest {
		return nil, fmt.Errorf("%s@%s: %w (%s, this is %s): choose another version", v.Name, v.Version, ErrVersionTaken, found.Image.Digest, v.Digest)
	}
	return found, nil
}

// pushing is a push under way.
type pushing struct {
	r       *Repo
	name    string
	parent  string
	files   []StepFile
	record  []byte
	journal *journal
	meter   *meter
	leave   func() // its lane
	claims  *claims

	mu   sync.Mutex // guards sent
	sent []sentPack // by this push and by others that the journals tell of
}

// uploaded notes a pack that has arrived, for this push if it begins again.
func (p *pushing) uploaded(s sentPack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, s)
}

// newPush begins to publish files: an image's, or, without a name, a step's. of
// is the same for pushes of the same image or step; what such a push had sent
// before it died is not sent again.
func (r *Repo) newPush(ctx context.Context, of, name, parent string, files []StepFile) (*pushing, error) {
	var total int64
	for _, f := range files {
		if err := f.checkKept(); err != nil {
			return nil, err
		}
		size, err := f.length()
		if err != nil {
			return nil, backend.Mark(err, ErrSource)
		}
		total += size
	}
	leave, err := r.lanes.enter(ctx, total)
	if err != nil {
		return nil, err
	}
	p := &pushing{r: r, name: name, parent: parent, files: files, meter: r.newMeter(cmp.Or(name, "step"), total), leave: leave, claims: newClaims(r)}
	if err := r.sync(ctx); err != nil {
		leave()
		return nil, err
	}
	var others []sentPack
	r.trimmed.Do(r.state.trim)
	p.journal, p.sent, others = r.state.beginPush(of)
	p.sent = append(p.sent, others...)
	return p, nil
}

// finish ends the journal and returns what moved.
func (p *pushing) finish(published bool) Transfer {
	p.journal.end(published)
	p.claims.close()
	p.leave()
	return p.meter.end()
}

// publish sends what is missing, and then the line that describe returns for
// it, until the line counts. It returns the entry of the line. If describe
// returns an entry, which is published already, publish returns that.
func (p *pushing) publish(ctx context.Context, describe func(*manifest) (line, *entry, error)) (*entry, error) {
	for range maxTries {
		epoch := 0
		p.r.withView(func(v *view) { epoch = v.epoch })
		var l line
		var existing *entry
		err := p.send(ctx, epoch, func(ctx context.Context, m *manifest) (err error) {
			if l, existing, err = describe(m); err == nil && existing == nil {
				l.Recipe, err = p.sendManifest(ctx, m)
			}
			return err
		})
		if err != nil || existing != nil {
			return existing, err
		}
		l.Epoch = epoch
		if err := p.r.appendLog(ctx, l); err != nil {
			return nil, err
		}
		var counted *entry
		p.r.withView(func(v *view) { counted = v.byID[l.Recipe.ID] })
		if counted != nil {
			return counted, nil
		}
		// Either a collection came first, or somebody published the same
		// version or step: the next round finds out which.
	}
	return nil, errOutrun
}

// sendManifest uploads the manifest.
func (p *pushing) sendManifest(ctx context.Context, m *manifest) (recipeRef, error) {
	if err := m.check(); err != nil {
		return recipeRef{}, backend.Mark(err, ErrSource)
	}
	b := m.encode()
	if len(b) > maxStored {
		return recipeRef{}, backend.Mark(fmt.Errorf("its description takes %d bytes, and %d are the most: it is too large or too scattered", len(b), maxStored), ErrSource)
	}
	ref := recipeRef{ID: newFileID(b), Length: int64(len(b))}
	if err := backend.Write(ctx, p.r.files, ref.path(), b); err != nil {
		return ref, err
	}
	p.r.state.put(ref.ID, b)
	return ref, nil
}

// send makes sure that all blocks of the files are in the repository, and
// that everything has its name for good. described is called when it is known
// where the blocks will be, while the last of them are on their way.
func (p *pushing) send(ctx context.Context, epoch int, described func(context.Context, *manifest) error) error {
	k := newKnown()
	if err := p.r.findKnown(ctx, k, p.name, p.parent); err != nil {
		return err
	}
	earlier, err := p.r.usablePacks(ctx, p.sent, epoch)
	if err != nil {
		return err
	}
	if err := p.r.addIndexes(ctx, k, earlier); err != nil {
		return err
	}
	p.meter.restart()
	u := newUpload(p, k, epoch)
	err = u.run(ctx, func(ctx context.Context, contents []content) error {
		return described(ctx, compact(p.record, contents, u.packs()))
	})
	if err != nil {
		return err
	}
	return forEach(ctx, atOnce, []string{"packs", "manifests"}, func(ctx context.Context, _ int, dir string) error {
		return p.r.files.SyncDir(ctx, dir)
	})
}

// compact makes a manifest that lists only the packs that its contents use, and
// renumbers their runs.
func compact(record []byte, contents []content, packs []packRef) *manifest {
	m := &manifest{record: record, objects: contents}
	renumbered := map[int]int{}
	for i := range contents {
		for j := range contents[i].runs {
			r := &contents[i].runs[j]
			n, ok := renumbered[r.pack]
			if !ok {
				n = len(m.packs)
				renumbered[r.pack] = n
				m.packs = append(m.packs, packs[r.pack])
			}
			r.pack = n
		}
	}
	return m
}
