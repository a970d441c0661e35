package files

import (
	"context"
	"errors"
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
	var recursive, itself bool
	cmd := &cobra.Command{
		Use:  "ls PLACE...",
		Args: command.AtLeast(1, "name an image, such as //web:root:/etc or disk.raw:/etc"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			files := []output.File{}
			for _, arg := range args {
				list, err := o.list(cmd.Context(), arg, recursive, itself)
				if err != nil {
					return err
				}
				files = append(files, list...)
			}
			if p.JSON {
				return p.Print(output.Files{Files: files})
			}
			return nil
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list what is in directories too")
	cmd.Flags().BoolVarP(&itself, "itself", "d", false, "list a directory itself, not what is in it")
	return cmd
}

func (o *opener) list(ctx context.Context, arg string, recursive, itself bool) (files []output.File, err error) {
	p, err := o.open(ctx, arg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l := &lister{ctx: ctx, p: p, recursive: recursive, seen: make(map[uint64]bool)}
	if !o.JSON {
		l.print = func(title string, rows []listed) error { return printRows(o.Out, title, rows) }
	}
	if err := l.start(itself); err != nil {
		return nil, err
	}
	for _, row := range l.rows {
		files = append(files, row.File)
	}
	return files, nil
}

// listed is one file, and how it is shown.
type listed struct {
	output.File
	name string
	mode fs.FileMode
}

// lister walks through an image. Rows are kept for JSON, else printed a
// directory at a time.
type lister struct {
	ctx       context.Context
	p         *place
	recursive bool
	seen      map[uint64]bool                         // directories
	rows      []listed                                // that are kept
	print     func(title string, rows []listed) error // nil: keep them
}

// start lists what is in the directory of the place, or the file or link there.
func (l *lister) start(itself bool) error {
	info, err := l.p.files.Stat(l.p.path)
	if err == nil && info.IsDir() && !itself {
		return l.directory(l.p.path, info)
	}
	if info, err = l.p.files.Lstat(l.p.path); err != nil {
		return l.p.explain(l.p.path, err)
	}
	row, err := l.row(l.p.path, info)
	if err != nil {
		return err
	}
	row.name = row.Path
	return l.put("", []listed{row})
}

func (l *lister) put(title string, rows []listed) error {
	if l.print == nil {
		l.rows = append(l.rows, rows...)
		return nil
	}
	return l.print(title, rows)
}

func (l *lister) directory(dir string, info fs.FileInfo) error {
	if err := context.Cause(l.ctx); err != nil {
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
		if err := l.directory(path.Join(dir, info.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) row(p string, info fs.FileInfo) (listed, error) {
	st := info.Sys().(*tree.Attr)
	mode := uint32(info.Mode().Perm())
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if info.Mode()&flag != 0 {
			mode |= bit
		}
	}
	row := listed{File: output.File{Image: l.p.what, Path: slashed(p), Type: typeName(info.Mode()), Mode: fmt.Sprintf("%04o", mode), Links: st.Links, UID: st.UID, GID: st.GID,
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

func typeName(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "link"
	case fs.ModeDevice:
		return "block"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "char"
	case fs.ModeNamedPipe:
		return "fifo"
	}
	return "socket"
}

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
	b[0] = map[string]byte{"file": '-', "directory": 'd', "link": 'l', "block": 'b', "char": 'c', "fifo": 'p', "socket": 's'}[typeName(m)]
	for _, s := range []struct {
		flag    fs.FileMode
		at      int
		set, no byte
	}{{fs.ModeSetuid, 3, 's', 'S'}, {fs.ModeSetgid, 6, 's', 'S'}, {fs.ModeSticky, 9, 't', 'T'}} {
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
