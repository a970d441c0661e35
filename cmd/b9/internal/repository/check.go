package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
)

// check is `b9 repo check`.
func check(p *session.Program) *cobra.Command {
	var deep, remove bool
	cmd := &cobra.Command{
		Use:  "check [NAME]",
		Args: command.OneAtMost("name"),
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return checkRepository(ctx, s, command.First(args), deep, remove)
		}),
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read everything")
	cmd.Flags().BoolVar(&remove, "remove", false, "take out the images that are hurt")
	return cmd
}

func checkRepository(ctx context.Context, s *session.Session, name string, deep, remove bool) (err error) {
	r, err := s.Repositories().Images(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if opened, ok := r.(*repo.Repo); ok && opened.Location().Remote() {
		s.Repositories().WarnIfOpen(ctx, opened)
	}
	damage, err := r.Check(ctx, deep)
	if err != nil {
		return err
	}
	if err := printDamage(s, damage); err != nil {
		return err
	}
	// Half a line of an interrupted push is reported, and does no harm.
	damage = slices.DeleteFunc(damage, func(d repo.Damage) bool { return len(d.Hurts) == 0 })
	if len(damage) == 0 {
		tellSound(s, r, deep)
		return nil
	}
	whole := slices.DeleteFunc(slices.Clone(damage), func(d repo.Damage) bool { return !d.Unreadable })
	if n := len(whole); n > 0 {
		return fmt.Errorf("%s: %s that can't be read here, and may be whole: let this user read what is published (umask of the server), then check again", r.Location(), output.Count(n, "file", "files"))
	}
	if remove {
		return removeHurt(ctx, s, r, damage)
	}
	return fmt.Errorf("%s: %s damaged: with --remove the images that are hurt are taken out, so that they can come again", r.Location(), output.Count(len(damage), "file is", "files are"))
}

// tellSound says how far it is known that nothing is damaged.
func tellSound(s *session.Session, r session.Images, deep bool) {
	far := "everything is there (--deep reads it, too)"
	if deep {
		far = "everything is there and as it was published"
	}
	s.Tell("%s: %s", r.Location(), far)
}

func printDamage(s *session.Session, damage []repo.Damage) error {
	list := make([]repo.Damage, len(damage))
	var text []byte
	for i, d := range damage {
		list[i] = d
		list[i].Hurts = append([]string{}, d.Hurts...)
		text = fmt.Appendf(text, "%s: %s, which hurts %s\n", d.Path, d.What, cmp.Or(strings.Join(d.Hurts, ", "), "nothing"))
	}
	return s.Show(output.Damage{Damage: list}, string(text))
}

// removeHurt removes the images that miss damaged files, and then the files that
// nothing needs, the damaged ones among them. Which steps miss one is not known:
// if there are any, all are removed, for they can be made again.
func removeHurt(ctx context.Context, s *session.Session, r session.Images, damage []repo.Damage) error {
	var hurt []string
	for _, d := range damage {
		hurt = append(hurt, d.Hurts...)
	}
	slices.Sort(hurt)
	o := repo.CleanOptions{Keep: -1, Steps: -1}
	for _, who := range slices.Compact(hurt) {
		name, version, image := strings.Cut(who, "@")
		if !image {
			o.Steps = 0
			continue
		}
		v, err := r.Resolve(ctx, repo.Selector{Name: name, Version: version})
		if err == nil {
			err = r.Remove(ctx, v)
		}
		if errors.Is(err, repo.ErrNotFound) { // somebody else did
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Console, "removed %s\n", who)
	}
	report, err := r.Clean(ctx, o)
	if report.Steps > 0 {
		fmt.Fprintf(s.Console, "removed %s\n", output.Count(report.Steps, "build step", "build steps"))
	}
	return err
}
