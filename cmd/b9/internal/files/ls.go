package files

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/fsys/tree"
)

// Ls is `b9 ls`.
func Ls(p *session.Program) *cobra.Command {
	o := newOpener(p)
	l := lister{program: p}
	cmd := &cobra.Command{
		Use:  "ls PLACE...",
		Args: command.AtLeast(1, "name an image, such as //web:root:/etc or disk.raw:/etc"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			err := o.each(cmd.Context(), args, l.list)
			if err != nil || !p.JSON {
				return err
			}
			return p.Print(output.Files{Files: output.List(l.files)})
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVarP(&l.recursive, "recursive", "R", false, "list what is in directories too")
	cmd.Flags().BoolVarP(&l.itself, "itself", "d", false, "list a directory itself, not what is in it")
	return cmd
}

// listed is one file, and how it is shown.
type listed struct {
	output.File
	name string
	mode fs.FileMode
}

// lister walks through images. It prints files a directory at a time, or keeps them
// for the document.
type lister struct {
	program           *session.Program
	recursive, itself bool
	files             []output.File

	p    *place
	seen map[uint64]bool // directories of its image
}

// list lists what is in the directory of the place, or the file or link there.
func (l *lister) list(ctx context.Context, p *place) error {
	l.p, l.seen = p, map[uint64]bool{}
	info, err := p.files.Stat(p.path)
	if err == nil && info.IsDir() && !l.itself {
		return l.directory(ctx, p.path, info)
	}
	if info, err = p.files.Lstat(p.path); err != nil {
		return p.explain(p.path, err)
	}
	row, err := l.row(p.path, info)
	if err != nil {
		return err
	}
	row.name = row.Path
	return l.put("", []listed{row})
}

func (l *lister) put(title string, rows []listed) error {
	if !l.program.JSON {
		return printRows(l.program.Out, title, rows)
	}
	for _, row := range rows {
		l.files = append(l.files, row.File)
	}
	return nil
}

func (l *lister) directory(ctx context.Context, dir string, info fs.FileInfo) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	id := info.Sys().(*tree.Attr).Inode
	if l.seen[id] {
		return fmt.Errorf("%s:%s: the file system is damaged: the directory lies in two places", l.p.what, printable(slashed(dir)))
	}
	l.seen[id] = true
	list, err := l.p.files.ReadDir(dir)
	if err != nil {
		return l.p.explain(dir, err)
	}
	rows := make([]listed, 0, len(list))
	var below []fs.FileInfo
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return l.p.explain(path.Join(dir, e.Name()), err)
		}
		row, err := l.row(path.Join(dir, e.Name()), info)
		if err != nil {
			return err
		}
		if rows = append(rows, row); info.IsDir() {
			below = append(below, info)
		}
	}
	title := ""
	if l.recursive {
		title = slashed(dir)
	}
	if err := l.put(title, rows); err != nil || !l.recursive {
		return err
	}
	for _, info := range below {
		if err := l.directory(ctx, path.Join(dir, info.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) row(p string, info fs.FileInfo) (listed, error) {
	st := info.Sys().(*tree.Attr)
	mode := uint32(info.Mode().Perm())
	for _, f := range modeFlags {
		if info.Mode()&f.flag != 0 {
			mode |= f.bit
		}
	}
	row := listed{File: output.File{Image: l.p.what, Path: slashed(p), Type: kinds[info.Mode().Type()].name, Mode: fmt.Sprintf("%04o", mode), Links: st.Links, UID: st.UID, GID: st.GID,
		Size: info.Size(), Time: info.ModTime().UTC(), Major: st.Major, Minor: st.Minor}, name: info.Name(), mode: info.Mode()}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := l.p.files.ReadLink(p)
		if err != nil {
			return row, l.p.explain(p, err)
		}
		row.Target = target
	}
	return row, nil
}

// kinds are the types of files, with what `ls -l` has for them.
var kinds = map[fs.FileMode]struct {
	name   string
	letter byte
}{
	0: {"file", '-'}, fs.ModeDir: {"directory", 'd'}, fs.ModeSymlink: {"link", 'l'}, fs.ModeDevice: {"block", 'b'},
	fs.ModeDevice | fs.ModeCharDevice: {"char", 'c'}, fs.ModeNamedPipe: {"fifo", 'p'}, fs.ModeSocket: {"socket", 's'},
}

// modeFlags are the flags of a mode: their bits, and what `ls -l` has for them, where
// the file may be executed and where not.
var modeFlags = [...]struct {
	flag    fs.FileMode
	bit     uint32
	at      int
	set, no byte
}{{fs.ModeSetuid, 0o4000, 3, 's', 'S'}, {fs.ModeSetgid, 0o2000, 6, 's', 'S'}, {fs.ModeSticky, 0o1000, 9, 't', 'T'}}

// printRows prints files as `ls -l` does, a title before them.
func printRows(w io.Writer, title string, rows []listed) error {
	var text []byte
	if title != "" {
		text = fmt.Appendf(text, "%s:\n", printable(title))
	}
	lines, width := make([][4]string, len(rows)), [4]int{}
	for i, r := range rows {
		size := strconv.FormatInt(r.Size, 10)
		if r.Type == "block" || r.Type == "char" {
			size = fmt.Sprintf("%d,%d", r.Major, r.Minor)
		}
		lines[i] = [4]string{fmt.Sprint(r.Links), fmt.Sprint(r.UID), fmt.Sprint(r.GID), size}
		for k, s := range lines[i] {
			width[k] = max(width[k], len(s))
		}
	}
	for i, r := range rows {
		text = append(text, lsMode(r.mode)...)
		for k, s := range lines[i] {
			text = fmt.Appendf(text, " %*s", width[k], s)
		}
		text = fmt.Appendf(text, " %s %s", r.Time.Format("2006-01-02 15:04"), printable(r.name))
		if r.Target != "" {
			text = fmt.Appendf(text, " -> %s", printable(r.Target))
		}
		text = append(text, '\n')
	}
	if title != "" {
		text = append(text, '\n')
	}
	_, err := w.Write(text)
	return err
}

// lsMode is type and permissions in ten letters.
func lsMode(m fs.FileMode) string {
	b := []byte(m.Perm().String())
	b[0] = kinds[m.Type()].letter
	for _, s := range modeFlags {
		switch {
		case m&s.flag == 0:
		case b[s.at] == 'x':
			b[s.at] = s.set
		default:
			b[s.at] = s.no
		}
	}
	return string(b)
}

// printable quotes a name that would do something to a terminal.
func printable(name string) string {
	if strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }) {
		return strconv.Quote(name)
	}
	return name
}
