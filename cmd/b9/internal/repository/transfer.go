package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/size"
)

// Push is `b9 push`.
func Push(p *session.Program) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:  "push NAME[@VERSION]",
		Args: command.Exactly(1, "push takes one name, got %d (`b9 list -r local` lists them)"),
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return exit.Resumes(push(ctx, s, to, args[0]), "what was sent is kept for the next push")
		}),
	}
	nameFlag(cmd, &to)
	return cmd
}

// push sends a version that this machine has.
func push(ctx context.Context, s *session.Session, to, name string) (err error) {
	local, err := s.Repositories().Local()
	if err != nil {
		return err
	}
	wanted, err := chosen(ctx, local, []string{name})
	if err != nil {
		return s.Repositories().Explain(name, err)
	}
	r, err := s.Repositories().Open(ctx, to, transferLine(s, "send"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v := wanted[0]
	if have, err := r.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version}); err == nil && have.Digest == v.Digest {
		tellUnchanged(s, v, "the repository has it")
		return errors.Join(printVersions(s, []repo.Version{have}), trim(ctx, s, local, v))
	} else if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	spec, err := local.PushSpec(v)
	if err != nil {
		return err
	}
	pushed, t, err := r.Push(ctx, spec)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: make room there, for example with `b9 clean-remote -r %s`", err, display.ShellWord(cmp.Or(to, s.Config.DefaultRepository())))
	}
	if err != nil {
		return unfinished(t, err)
	}
	tellTransfer(s, "sent", pushed, t)
	return errors.Join(printVersions(s, []repo.Version{pushed}), trim(ctx, s, local, v))
}

// Pull is `b9 pull`.
func Pull(p *session.Program) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:  "pull [NAME[@VERSION]]",
		Args: command.OneAtMost("name"),
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return exit.Resumes(pull(ctx, s, from, args), "what was fetched is kept for the next pull")
		}),
	}
	nameFlag(cmd, &from)
	return cmd
}

// pull fetches versions to this machine.
func pull(ctx context.Context, s *session.Session, from string, names []string) (err error) {
	local, err := s.Repositories().Local()
	if err != nil {
		return err
	}
	r, err := s.Repositories().Open(ctx, from, transferLine(s, "fetch"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	wanted, err := chosen(ctx, r, names)
	if err != nil {
		return s.Repositories().Explain(strings.Join(names, ""), err)
	}
	var pulled []repo.Version
	var taken error // which keeps no other from being fetched
	for _, v := range wanted {
		got, err := pullVersion(ctx, s, local, r, v, from)
		switch {
		case errors.Is(err, repo.ErrVersionTaken):
			taken = errors.Join(taken, err)
		case err != nil:
			return err
		default:
			pulled = append(pulled, got)
			if err := trim(ctx, s, local, got); err != nil {
				return err
			}
		}
	}
	if len(pulled) == 0 && taken != nil {
		return taken
	}
	return errors.Join(printVersions(s, pulled), taken)
}

// trim takes versions of a name out that this machine need not keep (shared.keep), and
// never the one that was just sent or fetched.
func trim(ctx context.Context, s *session.Session, local *share.LocalImages, moved repo.Version) error {
	keep := s.Config.Shared.Keep
	if keep == 0 {
		return nil
	}
	removed, err := local.CleanName(ctx, moved.Name, keep, moved.Version)
	for _, v := range removed {
		s.Tell("removed %s@%s from this machine: it keeps %s (shared.keep)", v.Name, v.Version, output.Count(keep, "version", "versions"))
	}
	return err
}

// chosen resolves NAME or NAME@VERSION, or lists the newest of every name.
func chosen(ctx context.Context, r session.Images, names []string) ([]repo.Version, error) {
	if len(names) > 0 {
		name, version, pinned := strings.Cut(names[0], "@")
		if err := repo.ValidName(name); err != nil {
			return nil, exit.Usage(err)
		}
		if err := repo.ValidName(version); pinned && err != nil {
			return nil, exit.Usagef("version: %w", err)
		}
		v, err := r.Resolve(ctx, repo.Selector{Name: name, Version: version})
		return []repo.Version{v}, err
	}
	all, err := r.List(ctx, "")
	seen := map[string]bool{}
	var newest []repo.Version
	for _, v := range all {
		if !seen[v.Name] {
			seen[v.Name] = true
			newest = append(newest, v)
		}
	}
	return newest, err
}

// pullVersion fetches one version of the repository that the user called from,
// unless this machine has it.
func pullVersion(ctx context.Context, s *session.Session, local *share.LocalImages, r *repo.Repo, v repo.Version, from string) (got repo.Version, err error) {
	have, ok, err := local.Pulled(ctx, v)
	if err != nil {
		return v, err
	}
	if ok {
		tellUnchanged(s, have, "this machine has it")
		return have, nil
	}
	if other, err := local.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version}); err == nil && other.Digest != v.Digest && !v.Digest.IsZero() {
		return v, fmt.Errorf("%s@%s: this machine's %w (%s, the repository has %s): publish one of them as another version", v.Name, v.Version, repo.ErrVersionTaken, other.Digest, v.Digest)
	}
	st, err := s.Store()
	if err != nil {
		return v, err
	}
	scratch, err := st.Scratch("pull " + v.Name)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	path := filepath.Join(scratch.Dir(), "image")
	t, err := local.Pull(ctx, r, v, path)
	if errors.Is(err, repo.ErrDamaged) && !v.Digest.IsZero() {
		return v, fmt.Errorf("%w: `b9 repo check %s --deep` tells what else is hurt", err, display.ShellWord(cmp.Or(from, s.Config.DefaultRepository())))
	}
	if err != nil && !v.Digest.IsZero() { // a repository without digests is copied in one go
		err = unfinished(t, err)
	}
	if err != nil {
		return v, err
	}
	o, err := st.Adopt(ctx, path)
	if err != nil {
		return v, err
	}
	newer, err := newerThan(ctx, r, v)
	if err != nil {
		return v, err
	}
	if got, err = local.Add(ctx, v, o, newer...); err == nil {
		tellTransfer(s, "fetched", got, t)
	}
	return got, err
}

// newerThan lists the versions that a repository has after v.
func newerThan(ctx context.Context, r *repo.Repo, v repo.Version) (newer []string, err error) {
	all, err := r.List(ctx, v.Name)
	for _, other := range all {
		if other.Version == v.Version {
			break
		}
		newer = append(newer, other.Version)
	}
	return newer, err
}

// transferLine shows a running transfer on one line of a terminal.
func transferLine(s *session.Session, verb string) func(repo.Progress) {
	line := s.Console.Line()
	if s.Quiet || line == nil {
		return nil
	}
	return func(p repo.Progress) { line(verb + " " + transferred(p)) }
}

// transferred says how far a transfer is, how fast, and what it saves, in what
// fits a terminal of 80 columns with a short name.
func transferred(p repo.Progress) string {
	return fmt.Sprintf("%s: %d%% of %s, moved %s (%s), %s there", p.Name, min(100*p.Done/max(p.Total, 1), 100), size.About(p.Total),
		size.About(p.Sent+p.Received), rate(p.Transfer), size.About(p.Reused))
}

func rate(t repo.Transfer) string {
	return size.About(int64(float64(t.Sent+t.Received)/max(t.Elapsed.Seconds(), 0.001))) + "/s"
}

// unfinished says how a transfer that failed goes on, where it is of use to
// start it again.
func unfinished(t repo.Transfer, err error) error {
	if err == nil || t.Sent+t.Received == 0 || errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrVersionTaken) || takesNothing(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: run it again to go on where it stopped", err)
}

// takesNothing reports whether a repository is fine to read from, and can't
// be written to.
func takesNothing(err error) bool {
	return errors.Is(err, repo.ErrReadOnly) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC)
}

// tellTransfer sums a finished transfer up, on standard error.
func tellTransfer(s *session.Session, what string, v repo.Version, t repo.Transfer) {
	s.Tell("%s %s@%s: %s over the wire in %s (%s), %s of %s were there already", what, v.Name, v.Version,
		size.About(t.Sent+t.Received), t.Elapsed.Round(10*time.Millisecond), rate(t), size.About(t.Reused), size.About(t.New+t.Reused))
}

// tellUnchanged says that nothing had to move.
func tellUnchanged(s *session.Session, v repo.Version, why string) {
	s.Tell("unchanged %s@%s: %s", v.Name, v.Version, why)
}
