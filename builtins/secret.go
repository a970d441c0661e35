package builtins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/disk"
	diskimage "b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/store"
)

// Secrets of a script
//
// A secret is a step of its own before the one that has it: a source, whose
// fingerprint is a salted digest of the value, and whose output is that digest as
// text. So keys, records, traces and what explains them hold nothing else of it, and
// a new value runs what depends on it. The step with the script reads the value
// itself, when it runs, and compares the digests. The backend keeps the value out of
// the log, and searches files of images and shares for it. What no file has any more,
// such as the blocks of a deleted one, is searched here, in the image's bytes.

// secretFile is a secret of a script, in the role "secret NAME".
type secretFile struct {
	Name   string
	Origin secret.Origin `key:"-"` // the value counts, as a salted digest, and not where it is
}

func (s secretFile) role() string { return "secret " + s.Name }

func (l *lxcExec) addSecrets(c *lang.Call) {
	for _, e := range c.Entries("secrets") {
		if err := container.CheckSecretName(e.Key); err != nil {
			c.Errorf("secrets: %w", err)
		}
		if v, ok := e.Value.(*lang.SecretValue); ok {
			l.Secrets = append(l.Secrets, secretFile{e.Key, v.Origin})
		}
	}
	if len(l.Secrets) == 0 && !l.SSH {
		return
	}
	var targets []string
	for _, m := range l.Images {
		targets = append(targets, m.Target)
	}
	for _, m := range l.Shares {
		targets = append(targets, m.Target)
	}
	for _, target := range targets {
		if target == container.SecretsDir || strings.HasPrefix(target, container.SecretsDir+"/") {
			c.Errorf("%s is the place of secrets, which are below %s: mount at another", target, container.SecretsDir)
		}
	}
}

// linkSecrets puts a step for each secret before the one with the script.
func (l *lxcExec) linkSecrets(k *lang.Linked) error {
	for _, s := range l.Secrets {
		if err := s.link(k); err != nil {
			return err
		}
	}
	return nil
}

// link puts a step for the secret before the one that has it.
func (s secretFile) link(k *lang.Linked) error {
	n, err := k.Between(s.role(), &secretDigest{s.Origin}, nil, lang.OneFile("txt"))
	if err != nil {
		return err
	}
	k.Inputs = append(k.Inputs, engine.Input{Role: s.role(), Ref: n.Ref("")})
	return nil
}

// secretDigest is a source that makes the salted digest of a secret.
type secretDigest struct {
	Origin secret.Origin `key:"-"` // its fingerprint counts
}

// Kind implements engine.Action.
func (s *secretDigest) Kind() string { return "secret/1" }

// Reads implements engine.Told.
func (s *secretDigest) Reads() string { return s.Origin.String() }

// Fingerprint implements engine.Source.
func (s *secretDigest) Fingerprint(_ context.Context, w *engine.World) (store.Digest, error) {
	value, err := s.Origin.Read()
	if err != nil {
		return store.Digest{}, err
	}
	return w.Store.Salted(value)
}

// Run implements engine.Action.
func (s *secretDigest) Run(_ context.Context, job *engine.Job) error {
	return os.WriteFile(job.Output(""), []byte(job.Fingerprint().String()), 0o644)
}

// IsPrivate implements engine.Private: the salt is this store's.
func (s *secretDigest) IsPrivate() bool { return true }

// IsPrivate implements engine.Private: no other machine has the same digests of secrets.
func (l *lxcExec) IsPrivate() bool { return len(l.Secrets) > 0 }

// readSecrets reads the values, which must be those that the key stands for.
func (l *lxcExec) readSecrets(job *engine.Job) ([]container.Secret, error) {
	var all []container.Secret
	for _, s := range l.Secrets {
		value, err := s.read(job)
		if err != nil {
			return nil, err
		}
		all = append(all, container.Secret{Name: s.Name, Origin: s.Origin, Value: value})
	}
	return all, nil
}

// read reads the value, which must be that which the key stands for.
func (s secretFile) read(job *engine.Job) ([]byte, error) {
	value, err := s.Origin.Read()
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s.Name, err)
	}
	now, err := job.World().Store.Salted(value)
	if err != nil {
		return nil, err
	}
	was, err := lang.InputText(job, s.role())
	if err != nil {
		return nil, err
	}
	if was != now.String() {
		return nil, fmt.Errorf("secret %s: %s was changed while the build ran: build again", s.Name, s.Origin)
	}
	return value, nil
}

// searching is what finds the secrets of a run.
func searching(spec *container.Spec) *secret.Set {
	var texts []secret.Text
	for _, s := range spec.Secrets {
		texts = append(texts, secret.Text{Name: s.Name, Value: s.Value})
	}
	return secret.Searching(texts)
}

// leakError is the end of a step that left a secret where it would be kept.
type leakError struct{ places []string }

func (e *leakError) Error() string {
	return "the script left a secret in what the step makes: " + strings.Join(e.places, "; ") +
		": have it remove that, or write what is no secret"
}

// leaked reports what the backend has found.
func (l *lxcExec) leaked(res container.Result) error {
	switch {
	case len(l.Secrets) > 0 && !res.Searched:
		return errUnsearched
	case len(res.Leaks) == 0:
		return nil
	}
	e := &leakError{}
	for _, l := range res.Leaks {
		e.places = append(e.places, l.String())
	}
	return e
}

var errUnsearched = errors.New("the script was ended before what it left could be searched for secrets")

// searchImage looks for the secrets in all bytes of an image that may have been written
// to. What the image had at the same place before is none of the script's doing.
func (l *lxcExec) searchImage(ctx context.Context, job *engine.Job, m mountPoint, set *secret.Set) (err error) {
	f, err := os.Open(job.Output(m.Target))
	if err != nil {
		return err
	}
	defer f.Close()
	var before disk.Image
	defer func() {
		if before != nil {
			err = errors.Join(err, before.Close())
		}
	}()
	written, err := job.Written("image "+m.Target, m.Target)
	if err != nil {
		return err
	}
	if written == nil {
		written = [][2]int64{{0, math.MaxInt64}}
	}
	e := &leakError{}
	err = set.SearchIn(ctx, f, written, func(found secret.Found) error {
		if before == nil {
			if before, err = image.OpenInput(ctx, job, "image "+m.Target, m.Format, image.Undeclared()); err != nil {
				return err
			}
		}
		if was, err := wasThere(ctx, before, f, found); err != nil || was {
			return err
		}
		e.places = append(e.places, freeSpace(m.Target, found))
		if len(e.places) == container.MaxLeaks {
			return secret.ErrStop
		}
		return nil
	})
	if err == nil && len(e.places) > 0 {
		err = e
	}
	return err
}

// wasThere reports whether a text that was found in an image was there before: at the
// same place, or elsewhere with the same bytes around it, or as the same name of a file.
// File systems move what nobody has changed: a directory that grows is split, and a
// leaf of btrfs is written anew with every file that is described in it.
func wasThere(ctx context.Context, before disk.Image, now io.ReaderAt, found secret.Found) (bool, error) {
	here, err := windowAt(now, found.At, found.Len)
	if err != nil {
		return false, err
	}
	if there, err := windowAt(before, found.At, found.Len); err != nil || bytes.Equal(there.text(), here.text()) {
		return err == nil, err
	}
	was := false
	err = places(ctx, before, here.text(), func(at int64) (bool, error) {
		there, err := windowAt(before, at, found.Len)
		was = err == nil && (here.sameAround(there) || here.sameName(there))
		return !was, err
	})
	return was, err
}

// window is a text and what is around it: as far as a name of a file reaches, with its
// length in front.
type window struct {
	data     []byte
	from, to int // of the text
}

const (
	longestName = 255
	lengthFront = 3  // bytes between the beginning of a name and its length, at most
	aroundText  = 16 // bytes on both sides that tell it from another text
)

func windowAt(r io.ReaderAt, at int64, n int) (window, error) {
	front := min(at, longestName+lengthFront)
	w := window{make([]byte, int(front)+n+longestName), int(front), int(front) + n}
	got, err := r.ReadAt(w.data, at-front)
	if err != nil && !errors.Is(err, io.EOF) {
		return w, err
	}
	clear(w.data[got:])
	return w, nil
}

func (w window) text() []byte { return w.data[w.from:w.to] }

// sameAround compares the bytes next to the texts.
func (w window) sameAround(v window) bool {
	if w.from < aroundText || v.from < aroundText {
		return false
	}
	return bytes.Equal(w.data[w.from-aroundText:w.to+aroundText], v.data[v.from-aroundText:v.to+aroundText])
}

// sameName compares the names of files that the texts are in, or are.
func (w window) sameName(v window) bool {
	for begin := range min(w.from, v.from, longestName) + 1 {
		for long := range w.lengths(begin) {
			from, was := w.from-begin, v.from-begin
			if v.lengths(begin)[long] && bytes.Equal(w.data[from:from+long], v.data[was:was+long]) {
				return true
			}
		}
	}
	return false
}

// lengths are those that a name can have that begins before the text and ends behind it.
// The length is before the name: in ext4 (ext4_dir_entry_2) by 2 bytes, in xfs
// (xfs_dir2_data_entry, xfs_dir2_sf_entry) by 1 or 3, in btrfs (btrfs_inode_ref,
// btrfs_dir_item) by 2 or 3.
func (w window) lengths(begin int) map[int]bool {
	all := make(map[int]bool)
	for at := w.from - begin - 1; at >= max(0, w.from-begin-lengthFront); at-- {
		if long := int(w.data[at]); long >= begin+w.to-w.from {
			all[long] = true
		}
	}
	return all
}

// places reports where a text is in the data of an image, in order, while yield says
// to go on.
func places(ctx context.Context, img disk.Image, text []byte, yield func(at int64) (bool, error)) error {
	const step = 1 << 20
	buf := make([]byte, step+len(text)-1)
	for at := int64(0); at < img.Size(); at += step {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if e, err := img.Extent(at); err == nil && e.State != diskimage.Data && e.Start+e.Length >= at+int64(len(buf)) {
			at = (e.Start+e.Length-int64(len(text)-1))/step*step - step // what begins before is all in the hole
			continue
		}
		n, err := img.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for from := 0; ; from++ {
			i := bytes.Index(buf[from:n], text)
			if i < 0 {
				break
			}
			from += i
			if more, err := yield(at + int64(from)); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// freeSpace tells of a secret in the bytes of an image that is in no file which the
// backend has searched.
func freeSpace(target string, found secret.Found) string {
	text := fmt.Sprintf("byte %d of the image for %s, where something was deleted, holds the secret %s", found.At, target, found.Name)
	if found.Form != "" {
		text += ", in " + found.Form
	}
	return text
}

// searchImages searches images as they would be kept.
func (l *lxcExec) searchImages(ctx context.Context, job *engine.Job, images []mountPoint, set *secret.Set) error {
	if set.Empty() {
		return nil
	}
	for _, m := range images {
		if err := l.searchImage(ctx, job, m, set); err != nil {
			return err
		}
	}
	return nil
}

// keepFailed has the state of a step that failed, or was interrupted, kept for b9 shell, unless there is a secret
// in it: then images and shares go, and the log says so.
func (l *lxcExec) keepFailed(ctx context.Context, job *engine.Job, spec container.Spec, res container.Result, cause error, set *secret.Set) {
	reason := l.unkept(ctx, job, res, cause, set)
	if reason == nil {
		note := "the script is in " + scriptDir + "/script"
		if _, err := os.Stat(filepath.Join(job.Dir(), "script", restFile)); err == nil {
			note += ", and the rest of it, from the command that failed, in " + scriptDir + "/" + restFile
		}
		job.Enterable(engine.Sandbox{Spec: spec, Note: note})
		return
	}
	job.Logf("b9: images and shares are not kept for b9 shell: %v", reason)
	for _, m := range l.Images {
		_ = os.Remove(job.Output(m.Target)) // or it goes with the step's directory
	}
	for _, s := range l.Shares {
		if s.Writable {
			_ = store.RemoveTree(job.Output(s.Target))
		}
	}
}

// unkept says why the state of a failed step can't be kept; nil where it can.
func (l *lxcExec) unkept(ctx context.Context, job *engine.Job, res container.Result, cause error, set *secret.Set) error {
	switch {
	case set.Empty():
		return nil
	case ctx.Err() != nil:
		return errors.New("the step was interrupted, and there may be a secret in them")
	}
	var leak *leakError
	if errors.As(cause, &leak) {
		return errors.New("there is a secret in them")
	}
	if err := l.leaked(res); err != nil {
		return err
	}
	return l.searchImages(ctx, job, l.Images, set)
}
