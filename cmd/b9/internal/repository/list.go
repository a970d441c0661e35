// Package repository holds the commands on shared images, and on the repositories
// that they are in: list, push, pull, update, clean-local, clean-remote, and those
// below `b9 repo` ([Command]). Each opens what it needs through
// [session.Repositories]; how images are stored and sent is engine/repo's.
package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/size"
)

// nameFlag adds -r to a command.
func nameFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVarP(name, "repository", "r", "", "the repository `NAME`, or where it is: a directory, ssh://host/path (default: shared.repository, else the only one there is)")
}

// List is `b9 list`.
func List(p *session.Program) *cobra.Command {
	var name string
	var long bool
	cmd := &cobra.Command{
		Use:  "list [NAME]",
		Args: command.OneAtMost("name"),
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return list(ctx, s, name, command.First(args), long)
		}),
	}
	nameFlag(cmd, &name)
	cmd.Flags().BoolVarP(&long, "long", "l", false, "tell where each version comes from, too")
	return cmd
}

func list(ctx context.Context, s *session.Session, repository, image string, long bool) (err error) {
	if err := repo.ValidName(image); image != "" && err != nil {
		return exit.Usage(err)
	}
	r, err := s.Repositories().Images(ctx, repository)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	versions, err := justOpened(r)(ctx, image)
	if err != nil {
		return err
	}
	if image != "" && len(versions) == 0 {
		_, err := r.Resolve(ctx, repo.Selector{Name: image}) // which says what there is
		return s.Repositories().Explain(image, err)
	}
	if repository == "" {
		tellLocal(s)
	}
	if long {
		return s.Show(output.Images{Images: output.List(versions)}, inLong(versions))
	}
	return printVersions(s, versions)
}

// tellLocal says that what is listed is no repository's because there are
// several and none is the default.
func tellLocal(s *session.Session) {
	if s.Config.Shared.Repository == "" && len(s.Config.Repositories) > 1 {
		names := strings.Join(slices.Sorted(maps.Keys(s.Config.Repositories)), ", ")
		s.Tell("this is what this machine has: give -r for one of %s, or set shared.repository", names)
	}
}

// justOpened is List without looking again for what came since r was opened.
func justOpened(r session.Images) func(context.Context, string) ([]repo.Version, error) {
	if r, ok := r.(*repo.Repo); ok {
		return r.Listed
	}
	return r.List
}

// shortDigest is enough of a digest for people; nothing for an image of a
// repository that knows none.
func shortDigest(d repo.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.String()[:15]
}

// printVersions prints versions as a document, or as a table.
func printVersions(s *session.Session, versions []repo.Version) error {
	rows := [][]string{{"NAME", "VERSION", "FORMAT", "SIZE", "DATA", "CREATED", "DIGEST"}}
	for _, v := range versions {
		rows = append(rows, []string{v.Name, v.Version, v.Format, size.About(v.Size), size.About(v.Data), v.Created.Local().Format(time.DateTime), shortDigest(v.Digest)})
	}
	return s.Show(output.Images{Images: output.List(versions)}, output.Table(rows))
}

// inLong is a few lines on each of the versions.
func inLong(versions []repo.Version) string {
	var text []byte
	for _, v := range versions {
		whole := v.Digest.String()
		if v.Digest.IsZero() {
			whole = "" // see shortDigest
		}
		text = fmt.Appendf(text, "%s@%s\n", v.Name, v.Version)
		for _, line := range [][2]string{
			{"content", whole},
			{"format", strings.Join(append([]string{v.Format}, v.FileSystems...), ", ")},
			{"size", fmt.Sprintf("%s, %s of them data", size.About(v.Size), size.About(v.Data))},
			{"created", v.Created.Local().Format(time.DateTime)},
			{"made from", v.Parent},
			{"made by", strings.Trim(v.Origin.User+"@"+v.Origin.Host, "@")},
			{"target", v.Origin.Label},
			{"source", strings.TrimSpace(v.Origin.Source + " " + v.Origin.Commit)},
			{"b9", v.Origin.B9},
			{"key", v.Key},
		} {
			if line[1] != "" {
				text = fmt.Appendf(text, "    %-10s %s\n", line[0], line[1])
			}
		}
	}
	return string(text)
}
