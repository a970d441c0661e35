package builtins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/store"
)

func (l *lxcExec) addImages(c *lang.Call, s *lang.Step) {
	root := false
	for _, e := range c.Entries("images") {
		target, ok := mountTarget(c, "images", e.Key)
		if !ok {
			continue
		}
		root = root || target == "/"
		l.Images = append(l.Images, mountPoint{Target: target})
		s.Inputs = append(s.Inputs, lang.StepInput{Role: "image " + target, From: c.Operand(e.Value, lang.File, "images["+strconv.Quote(e.Key)+"]")})
		s.Outputs = append(s.Outputs, engine.Output{Name: target, Kind: store.File, Ext: "raw", Beneath: target != "/"})
	}
	if !root {
		c.Errorf(`images has no root image: give one for "/"`)
	}
}

// addSubvolumes says which subvolumes of the images are mounted.
func (l *lxcExec) addSubvolumes(c *lang.Call) {
	given := map[string]string{}
	for _, e := range c.Entries("subvolume") {
		given[e.Key] = lang.Text(e.Value)
	}
	if root := c.String("subvolume"); root != "" {
		given["/"] = root
	}
	for i := range l.Images {
		at := l.Images[i].Target
		l.Images[i].Subvolume = given[at]
		delete(given, at)
	}
	for i := range l.Shares {
		at := l.Shares[i].Target
		l.Shares[i].Subvolume = given[at]
		delete(given, at)
	}
	for _, at := range slices.Sorted(maps.Keys(given)) {
		c.Errorf("subvolume: nothing is mounted at %q", at)
	}
}

func (l *lxcExec) addShares(c *lang.Call, s *lang.Step) {
	for _, e := range c.Entries("shares") {
		target, ok := mountTarget(c, "shares", e.Key)
		if !ok {
			continue
		}
		if slices.ContainsFunc(l.Images, func(m mountPoint) bool { return m.Target == target }) {
			c.Errorf("shares: %s is the mount point of an image already", target)
		}
		share := shareMount{Target: target}
		var from lang.Input
		if w, ok := e.Value.(*lang.WritableValue); ok {
			share.Writable = true
			from = w.Src
			s.Outputs = append(s.Outputs, engine.Output{Name: target, Kind: store.Tree, Beneath: true})
		} else {
			from = c.Operand(e.Value, lang.File|lang.Tree, "shares["+strconv.Quote(e.Key)+"]")
		}
		share.Filled = !from.IsZero()
		l.Shares = append(l.Shares, share)
		s.Inputs = append(s.Inputs, lang.StepInput{Role: "share " + target, From: from})
	}
}

// mountTarget checks a mount point. One that is not in its shortest form is
// refused: images[...] and the outputs are asked for by that name.
func mountTarget(c *lang.Call, param, at string) (string, bool) {
	clean := path.Clean(at)
	switch {
	case !path.IsAbs(at):
		c.Errorf("%s: mount point %q is not an absolute path", param, at)
	case clean != at:
		c.Errorf("%s: write the mount point %q as %q", param, at, clean)
	case clean == scriptDir || strings.HasPrefix(clean, scriptDir+"/"):
		c.Errorf("%s: %s is where b9 keeps the script", param, scriptDir)
	default:
		return clean, true
	}
	return "", false
}

// mountPoint is where an image is mounted.
type mountPoint struct {
	Target    string
	Format    string // of the image that comes in
	Subvolume string // "" for the default of the file system
}

// shareMount is a directory of the host's side, or an image that is only read.
type shareMount struct {
	Target    string
	Writable  bool   // a private copy, and an output
	Filled    bool   // there is an input for it
	Format    string // of an image; "" for a directory
	Subvolume string // as in mountPoint
}

// finish decides whether a share is an image, and of which format.
func (s *shareMount) finish(k *lang.Linked) (err error) {
	role := "share " + s.Target
	if out, ok := k.Output(role); ok && out.Kind == store.File {
		s.Format, err = image.InputFormat(k, role, "")
		return err
	}
	if s.Subvolume != "" {
		return fmt.Errorf("subvolume: what is shared at %q is a directory, and no btrfs image", s.Target)
	}
	return nil
}

// mounts prepares a private copy of every image and writable share.
func (l *lxcExec) mounts(ctx context.Context, job *engine.Job) ([]container.Mount, error) {
	dir, err := l.writeScript(ctx, job)
	if err != nil {
		return nil, err
	}
	mounts := []container.Mount{{Source: dir, Target: scriptDir, Kind: container.Dir, ReadOnly: true}}
	for _, m := range l.Images {
		if err := l.fork(ctx, job, m); err != nil {
			return nil, err
		}
		if err := image.CheckMountable(job.Output(m.Target)); err != nil {
			return nil, fmt.Errorf("image for %s: %w", m.Target, err)
		}
		mounts = append(mounts, container.Mount{Source: job.Output(m.Target), Target: m.Target, Kind: container.Image, Subvolume: m.Subvolume})
	}
	for i, s := range l.Shares {
		m, err := shareOf(ctx, job, s, filepath.Join(job.Dir(), fmt.Sprintf("share%d.raw", i)))
		if err != nil {
			return nil, fmt.Errorf("share for %s: %w", s.Target, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// fork makes the private copy of an image that becomes the output.
func (l *lxcExec) fork(ctx context.Context, job *engine.Job, m mountPoint) error {
	if err := forkImage(ctx, job, "image "+m.Target, m.Format, job.Output(m.Target)); err != nil {
		return fmt.Errorf("image for %s: %w", m.Target, err)
	}
	return nil
}

// forkImage makes a private raw copy of the image of that role at dst.
func forkImage(ctx context.Context, job *engine.Job, role, format, dst string) error {
	if format == "raw" {
		return job.Input(role).Fork(ctx, dst)
	}
	src, err := image.OpenInput(ctx, job, role, format, image.Undeclared())
	if err != nil {
		return err
	}
	return errors.Join(disk.Convert(ctx, src, dst, "raw", disk.WriteOptions{}), src.Close())
}

// shareOf is the mount of a share. An image that is not raw is converted to the path
// raw.
func shareOf(ctx context.Context, job *engine.Job, s shareMount, raw string) (container.Mount, error) {
	m := container.Mount{Target: s.Target, Kind: container.Dir, ReadOnly: !s.Writable}
	var err error
	if s.Format == "" {
		m.Source, err = shareSource(ctx, job, s)
		return m, err
	}
	m.Kind, m.Subvolume = container.Image, s.Subvolume
	if s.Format == "raw" {
		m.Source, err = shareSource(ctx, job, s)
	} else {
		m.Source = raw
		err = forkImage(ctx, job, "share "+s.Target, s.Format, raw)
	}
	if err != nil {
		return m, err
	}
	return m, image.CheckMountable(m.Source)
}

// shareSource is the directory, or raw image, that is mounted for a share. One that is only
// read is exposed until the job ends: b9 shell may mount it, too.
func shareSource(ctx context.Context, job *engine.Job, s shareMount) (string, error) {
	role := "share " + s.Target
	if !s.Writable {
		dir, err := job.Expose(ctx, role)
		if err != nil {
			return "", err
		}
		return dir.Path, nil
	}
	dir := job.Output(s.Target)
	if !s.Filled {
		return dir, makeEmpty(dir, job.Epoch())
	}
	return dir, job.Input(role).Fork(ctx, dir)
}

// makeEmpty makes a directory that is the same whoever makes it, and when.
func makeEmpty(dir string, at time.Time) error {
	return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755), os.Chtimes(dir, at, at))
}

// Subvolume is the one of a btrfs that lxc_exec mounted where an output of it was; ""
// for the default, and for what is no output of lxc_exec.
func Subvolume(ref engine.Ref) string {
	l, ok := ref.Node.Action().(*lxcExec)
	if !ok {
		return ""
	}
	for _, m := range l.Images {
		if m.Target == ref.Output {
			return m.Subvolume
		}
	}
	return ""
}
