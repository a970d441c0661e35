package repo

import (
	"context"
	"errors"
	"fmt"

	"b9.build/b9/engine/repo/internal/backend"
)

// LookupStep returns the step with the key, or an error that wraps
// [ErrNotFound]. The log is read once, when the repository is opened, so a build
// asks the server only for steps that it has.
func (r *Repo) LookupStep(ctx context.Context, key string) (Step, error) {
	e := r.step(key)
	if e == nil {
		return Step{}, fmt.Errorf("step %s is %w %s", key, ErrNotFound, r.loc)
	}
	m, err := r.manifestOf(ctx, e.Recipe)
	if err != nil {
		return Step{}, fmt.Errorf("step %s from %s: %w", key, r.loc, r.unlessGone(ctx, e.Recipe.ID, err))
	}
	s := Step{Key: key, Record: m.record}
	for _, c := range m.objects {
		s.Objects = append(s.Objects, Object{Name: c.name, Digest: c.digest, Size: c.size, recipe: e.Recipe})
	}
	return s, nil
}

// Steps calls each with the finished steps, without their objects, the one published
// last first, until it returns false. Each is read when its turn comes; one that is
// damaged or gone is left out.
func (r *Repo) Steps(ctx context.Context, each func(Step) bool) error {
	var list []*entry
	r.withView(func(v *view) { list = v.newestSteps(len(v.steps)) })
	for _, e := range list {
		m, err := r.manifestOf(ctx, e.Recipe)
		if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if err == nil && !each(Step{Key: e.StepKey, Record: m.record}) {
			return nil
		}
	}
	return nil
}

// PublishStep adds a step: record (at most 1 MiB), and files, which are sent
// as Push does. A step that is there already is left as it is.
func (r *Repo) PublishStep(ctx context.Context, key string, record []byte, files []StepFile) (t Transfer, err error) {
	defer wrap(&err, "publish step %s to %s", key, r.loc)
	if err := checkStep(key, record, files); err != nil {
		return t, backend.Mark(err, ErrSource)
	}
	p, err := r.newPush(ctx, "step "+key, "", "", files)
	if err != nil {
		return t, err
	}
	p.record = record
	if r.step(key) == nil {
		_, err = p.publish(ctx, func(*manifest) (line, *entry, error) {
			return line{Op: opStep, StepKey: key}, r.step(key), nil
		})
	}
	return p.finish(err == nil), err
}

// step returns the step as it is published; nil if it is not.
func (r *Repo) step(key string) (e *entry) {
	r.withView(func(v *view) { e = v.steps[key] })
	return e
}

// checkStep checks what takes no reading of the files.
func checkStep(key string, record []byte, files []StepFile) error {
	const maxKey = 1 << 10
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("its key has %d bytes, not 1 to %d", len(key), maxKey)
	}
	if len(record) > maxRecord {
		return fmt.Errorf("its record has %d bytes, more than %d", len(record), maxRecord)
	}
	if len(files) > maxObjects {
		return fmt.Errorf("it has %d files, more than %d", len(files), maxObjects)
	}
	names := map[string]bool{}
	for _, f := range files {
		if err := ValidName(f.Name); err != nil {
			return fmt.Errorf("object: %w", err)
		}
		if names[f.Name] {
			return fmt.Errorf("object %s is there twice", f.Name)
		}
		names[f.Name] = true
	}
	return nil
}
