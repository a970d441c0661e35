package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/tree"
)

// Files is the operation files().
func Files() lang.Operation {
	return lang.Operation{
		Name: "files",
		Doc: `files out of an image, as a directory or as one file

The file system is read by b9 itself: ext2, ext3, ext4, vfat, iso9660 or squashfs, without
a mount and without a container. Patterns are those of glob(): * and ? match no slash, **
stands for any directories, and names that begin with a dot match only patterns that do.
A directory that matches comes with all that is in it. Where a part of a pattern is no
pattern, links to directories are followed.

The result is a directory in which everything has the path that it has in the image, its
owner, permissions, time and extended attributes; links stay links. With pick it is one
file, and a link that matches is followed: "one" asks for exactly one match, and "newest"
takes the one whose name has the highest version, so that vmlinuz-6.1.0-10 is newer than
vmlinuz-6.1.0-9. A pattern that matches nothing is an error.`,
		Positional: 2,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image, which is a file system: of a disk give partition(DISK, NUMBER)"},
			{Name: "patterns", Type: lang.String | lang.ListOf(lang.String), Required: true, Doc: `paths in the image, or patterns of them, such as "/boot/vmlinuz-*"`},
			lang.NameParam(),
			{Name: "pick", Type: lang.String, Default: starlark.String("all"), Enum: []string{"all", "one", "newest"}, Doc: `"all" is a directory of all that matches, "one" and "newest" are a file`},
			{Name: "strip_prefix", Type: lang.String, Doc: "leading directory that the paths in the result lose"},
			{Name: "allow_empty", Type: lang.Bool, Doc: "a pattern that matches nothing is no error; not with pick"},
		},
		Example: `kernel = files(":root", "/boot/vmlinuz-*", pick = "newest")`,
		Make:    filesStep,
	}
}

func filesStep(c *lang.Call) (lang.Step, error) {
	f := &takeFiles{Pick: c.String("pick"), Strip: strings.Trim(c.String("strip_prefix"), "/"), AllowEmpty: c.Bool("allow_empty")}
	for _, p := range c.Strings("patterns") {
		clean := strings.Trim(p, "/")
		if err := lang.CheckGlob(strings.Split(clean, "/")); err != nil && clean != "" { // which is all of the image
			c.Errorf("patterns: bad pattern %q: %w", p, err)
		}
		f.Patterns = append(f.Patterns, clean)
	}
	outputs := lang.OneTree()
	if len(f.Patterns) == 0 {
		c.Errorf("patterns is empty: give one")
	}
	if f.Pick != "all" {
		outputs = lang.OneFile("")
		if f.Strip != "" || f.AllowEmpty {
			c.Errorf(`strip_prefix and allow_empty are for a directory, and pick = %q makes a file`, f.Pick)
		}
	}
	return lang.Step{
		Action: f, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}}, Outputs: outputs,
		Finish: func(l *lang.Linked) error { return rawImages(l, "image") },
	}, nil
}

// takeFiles copies files out of the file system in the raw image of the role "image".
type takeFiles struct {
	Patterns   []string // without a leading slash
	Pick       string   // "all", "one" or "newest"
	Strip      string   `param:"strip_prefix"` // leading directory that paths lose
	AllowEmpty bool
}

// Kind implements engine.Action.
func (*takeFiles) Kind() string { return "files/1" }

// Run implements engine.Action.
func (f *takeFiles) Run(ctx context.Context, job *engine.Job) error {
	return readFiles(ctx, job, "image", func(r tree.Reader) error {
		names, err := f.match(ctx, r)
		if err != nil {
			return err
		}
		if f.Pick == "all" {
			return f.copyAll(ctx, job, r, names)
		}
		return f.copyOne(ctx, job, r, names)
	})
}

// readFiles has do read the files of the file system in the raw image of a role.
func readFiles(ctx context.Context, job *engine.Job, role string, do func(r tree.Reader) error) error {
	img, err := OpenInput(ctx, job, role, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	r, err := fsys.NewReader(img, img.Size())
	if err == nil {
		err = do(r)
	} else if src, expose := job.Expose(ctx, role); expose == nil {
		if whole := CheckMountable(src.Path); whole != nil {
			err = whole
		}
		err = errors.Join(err, src.Close())
	}
	return errors.Join(err, img.Close())
}

// match lists what matches the patterns, sorted, without what lies in a directory that
// matches itself.
func (f *takeFiles) match(ctx context.Context, r tree.Reader) ([]string, error) {
	var names []string
	for _, p := range f.Patterns {
		found, err := findMatches(ctx, r, p)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 && !f.AllowEmpty {
			return nil, fmt.Errorf("nothing in the image matches %q", "/"+p)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if have[dir] {
				return true
			}
		}
		return false
	}), nil
}

// findMatches lists what matches a pattern of glob() in an image, sorted.
func findMatches(ctx context.Context, r tree.Reader, pattern string) ([]string, error) {
	if pattern == "" {
		return []string{"."}, nil
	}
	m := matcher{ctx: ctx, r: r, found: map[string]bool{}}
	if err := m.expand(".", strings.Split(pattern, "/")); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(m.found))
	for name := range m.found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// matcher finds what matches a pattern.
type matcher struct {
	ctx   context.Context
	r     tree.Reader
	found map[string]bool
}

// expand finds what matches the parts of a pattern below a directory.
func (m *matcher) expand(dir string, parts []string) error {
	if err := context.Cause(m.ctx); err != nil {
		return err
	}
	part, rest := parts[0], parts[1:]
	if part == "**" {
		return m.anywhere(dir, parts)
	}
	if !strings.ContainsAny(part, `*?[\`) {
		return m.deeper(path.Join(dir, part), rest, m.r.Stat)
	}
	entries, err := m.r.ReadDir(dir)
	for i := 0; i < len(entries) && err == nil; i++ {
		if name := entries[i].Name(); lang.MatchPart(part, name) {
			err = m.deeper(path.Join(dir, name), rest, m.r.Lstat)
		}
	}
	return err
}

// anywhere finds what matches the parts of a pattern that begins with **.
func (m *matcher) anywhere(dir string, parts []string) error {
	if len(parts) > 1 {
		if err := m.expand(dir, parts[1:]); err != nil {
			return err
		}
	}
	entries, err := m.r.ReadDir(dir)
	for i := 0; i < len(entries) && err == nil; i++ {
		name := path.Join(dir, entries[i].Name())
		switch {
		case entries[i].Name()[0] == '.':
		case entries[i].IsDir():
			err = m.expand(name, parts)
		case len(parts) == 1:
			m.found[name] = true
		}
	}
	return err
}

// deeper goes on with what a part of a pattern has matched, if it is there. The
// rest of the pattern is looked for in it if stat says that it is a directory.
func (m *matcher) deeper(name string, rest []string, stat func(string) (fs.FileInfo, error)) error {
	if len(rest) == 0 {
		stat = m.r.Lstat
	}
	info, err := stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil
	case err != nil:
		return err
	case len(rest) == 0:
		m.found[name] = true
	case info.IsDir():
		return m.expand(name, rest)
	}
	return nil
}

// copyAll makes a directory of everything that has matched.
func (f *takeFiles) copyAll(ctx context.Context, job *engine.Job, r tree.Reader, names []string) (err error) {
	if err := os.Mkdir(job.Output(""), 0o755); err != nil {
		return err
	}
	dst, err := os.OpenRoot(job.Output(""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	var lost error
	o := fsys.CopyOptions{Owners: os.Geteuid() == 0, Skipped: func(name, why string) { lost = fmt.Errorf("/%s %s", name, why) }}
	made := []string{"."} // the directories that nobody asked for, the outer ones first
	for _, name := range names {
		as, err := f.stripped(name)
		if err == nil {
			made, err = mkdirs(dst, path.Dir(as), made)
		}
		if err == nil {
			err = fsys.Copy(ctx, r, name, dst, as, o)
		}
		if err = errors.Join(err, lost); err != nil {
			return err
		}
	}
	for _, dir := range made {
		if err := dst.Chtimes(dir, job.Epoch(), job.Epoch()); err != nil {
			return err
		}
	}
	return nil
}

// stripped is where a file of the image goes.
func (f *takeFiles) stripped(name string) (string, error) {
	switch rest, below := strings.CutPrefix(name, f.Strip+"/"); {
	case f.Strip == "":
		return name, nil
	case name == f.Strip:
		return ".", nil
	case below:
		return rest, nil
	}
	return "", fmt.Errorf("%q does not lie in strip_prefix %q", "/"+name, "/"+f.Strip)
}

// mkdirs makes the directories that lead to a file, and appends them to made.
func mkdirs(dst *os.Root, dir string, made []string) ([]string, error) {
	if _, err := dst.Lstat(dir); err == nil {
		return made, nil
	}
	made, err := mkdirs(dst, path.Dir(dir), made)
	if err != nil {
		return made, err
	}
	return append(made, dir), errors.Join(dst.Mkdir(dir, 0o755), dst.Chmod(dir, 0o755))
}

// copyOne makes the file that was asked for.
func (f *takeFiles) copyOne(ctx context.Context, job *engine.Job, r tree.Reader, names []string) error {
	var files []string
	for _, name := range names {
		if info, err := r.Stat(name); err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	switch {
	case len(files) == 0:
		return fmt.Errorf("no file: %s are directories, devices, or links to nothing", strings.Join(names, ", "))
	case len(files) > 1 && f.Pick == "one":
		return fmt.Errorf(`%d files match, such as %s and %s: pick = "newest" takes the one with the highest version`, len(files), files[0], files[1])
	}
	name := slices.MaxFunc(files, compareVersions)
	job.Logf("%s", "/"+name)
	return copyFile(ctx, r, name, job.Output(""))
}

// copyFile copies a file of an image to a new one.
func copyFile(ctx context.Context, r tree.Reader, name, dst string) error {
	in, err := r.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, engine.Interruptible(ctx, in))
	return errors.Join(err, out.Close())
}
