package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	diskimage "b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// check is `b9 image check`.
func check(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:  "check FILE",
		Args: command.ExactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, format, err := resolve(p, args[0], &f)
			if err != nil {
				return err
			}
			if format == "raw" {
				return checkRaw(cmd.Context(), p, args[0], path)
			}
			return checkFormat(cmd.Context(), p, args[0], path, format, &f)
		},
	}
	f.Register(cmd)
	return cmd
}

// checkRaw checks the file system in a raw image, or else its partition table.
func checkRaw(ctx context.Context, p *session.Program, name, path string) error {
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	if info.Type != "" {
		if err := fsys.Check(ctx, path); err != nil {
			return findings(p, name, info.Type+" file system", err)
		}
		return verdict(p, name, info.Type+" file system")
	}
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer img.Close()
	t, err := partition.ReadTable(img, 0)
	if err != nil {
		return fmt.Errorf("%s: nothing to check: no known file system, and no partition table: %w", name, err)
	}
	what := fmt.Sprintf("%s table of %d partitions", t.Kind, len(t.Partitions))
	if err := t.CheckCopies(img); err != nil {
		doc := output.Check{Path: name, Checked: what, Corruptions: 1, Problems: []string{err.Error()}}
		if err := p.Show(doc, fmt.Sprintf("%s\n%s: %s: 1 corruption\n", err, name, what)); err != nil {
			return err
		}
		return fmt.Errorf("%s: one copy of the partition table is damaged: mend it (gdisk, or sgdisk -e)", name)
	}
	return verdict(p, name, what)
}

// findings prints all that a program found in a file system, where the error has only
// some of it.
func findings(p *session.Program, name, what string, err error) error {
	var found *tool.Failure
	if tool.Rest(err) == "" || !errors.As(err, &found) {
		return err
	}
	lines := strings.Split(found.Output, "\n")
	doc := output.Check{Path: name, Checked: what, Corruptions: int64(len(lines)), Problems: lines}
	if err := p.Show(doc, fmt.Sprintf("%s\n", strings.Join(lines, "\n"))); err != nil {
		return err
	}
	return fmt.Errorf("%s: the %s has errors: %d lines say which", name, what, len(lines))
}

func verdict(p *session.Program, name, what string) error {
	return p.Show(output.Check{Path: name, Checked: what}, fmt.Sprintf("%s: %s: no errors\n", name, what))
}

func checkFormat(ctx context.Context, p *session.Program, name, path, format string, f *Flags) error {
	r, err := disk.Check(ctx, path, format, disk.OpenOptions{Extents: f.extents})
	if err != nil {
		return permit(name, err)
	}
	text := fmt.Sprintf("%s: %s: no errors\n", name, format)
	if r.Leaks+r.Corruptions > 0 {
		text = fmt.Sprintf("%s\n%s: %s: %d corruptions, %d leaks\n", strings.Join(r.Problems, "\n"), name, format, r.Corruptions, r.Leaks)
	}
	err = p.Show(output.Check{Path: name, Checked: format, Clusters: r.Clusters, Leaks: r.Leaks, Corruptions: r.Corruptions, Problems: r.Problems}, text)
	if err == nil && r.Corruptions > 0 {
		err = fmt.Errorf("%s is damaged: make it again, or repair a copy with qemu-img check -r all", name)
	}
	return err
}

// compare is `b9 image compare`.
func compare(p *session.Program) *cobra.Command {
	var f, second Flags
	cmd := &cobra.Command{
		Use:  "compare FILE FILE",
		Args: command.ExactArgs("two files", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			second.backing, second.extents = f.backing, f.extents
			return exit.Comparison(compareImages(cmd.Context(), p, args, &f, &second))
		},
	}
	f.Register(cmd)
	cmd.Flags().StringVarP(&second.format, "second-format", "F", "", "the second image is in `FORMAT` (default: guessed)")
	return cmd
}

func compareImages(ctx context.Context, p *session.Program, names []string, f, g *Flags) (same bool, err error) {
	first, err := Open(p, names[0], f)
	if err != nil {
		return false, err
	}
	defer first.Close()
	second, err := Open(p, names[1], g)
	if err != nil {
		return false, err
	}
	defer second.Close()
	parts, known, err := storedDifferences(p, names, f, g)
	if err != nil {
		return false, err
	}
	if known {
		first, second = diskimage.Within(first, parts), diskimage.Within(second, parts)
	}
	at, err := disk.Compare(ctx, first, second)
	if err != nil {
		return false, err
	}
	return at < 0, printComparison(p, at)
}

// storedDifferences lists the parts in which two raw images may differ that are files of the
// store, or lead there, as results do that are placed as links. known is false where that
// can't be told from what the store has.
func storedDifferences(p *session.Program, names []string, flags ...*Flags) (parts [][2]int64, known bool, err error) {
	s, err := p.Open()
	if err != nil {
		return nil, false, nil // plain files are compared whatever the configuration says
	}
	defer s.Close()
	var digests []store.Digest
	for i, name := range names {
		path, format, err := resolve(p, name, flags[i])
		if err != nil || format != "raw" || !within(s.Config.Store.Dir, path) {
			return nil, false, err
		}
		st, err := s.Store()
		if err != nil {
			return nil, false, err
		}
		d, ok := st.ObjectAt(path)
		if !ok {
			return nil, false, nil
		}
		digests = append(digests, d)
	}
	st, err := s.Store()
	if err != nil {
		return nil, false, err
	}
	return st.Differences(digests[0], digests[1])
}

// within reports whether path leads to something in dir.
func within(dir, path string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	dir, err = filepath.EvalSymlinks(dir)
	return err == nil && strings.HasPrefix(path, dir+string(filepath.Separator))
}

// printComparison says where the first difference is; below 0 there is none.
func printComparison(p *session.Program, at int64) error {
	switch {
	case at >= 0:
		return p.Show(output.Comparison{Offset: &at}, fmt.Sprintf("different at offset %d\n", at))
	case p.Quiet:
		return p.Show(output.Comparison{Identical: true}, "")
	}
	return p.Show(output.Comparison{Identical: true}, "identical\n")
}
