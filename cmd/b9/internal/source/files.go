// Package source holds the commands about Starlark files as text, fmt and lint: which
// files they mean, and what they print. What is done with the text is package style's.
package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// suffix is that of every file in which Starlark is.
const suffix = ".star"

// file is one that was named, or lies in a directory that was.
type file struct {
	path string // to open it
	name string // for people: as it was named, or below the workspace's root
	data []byte
}

// read returns the files that the arguments name: Starlark files, directories of them,
// and "-" for standard input. Without arguments it is those of the working directory.
func read(s *session.Session, args []string) ([]file, error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	var files []file
	seen := map[string]bool{}
	for _, arg := range args {
		found, err := find(s, arg)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if seen[f.path] {
				continue
			}
			seen[f.path] = true
			if err := f.read(s); err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// find returns the files that one argument names, unread. It does not enter what holds
// no sources: hidden directories, results, and symbolic links.
func find(s *session.Session, arg string) ([]file, error) {
	if arg == "-" {
		return []file{{name: "<stdin>"}}, nil
	}
	top, err := s.Path(arg)
	if err != nil {
		return nil, err
	}
	switch st, err := os.Stat(top); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, exit.Usagef("%s: no such file or directory", arg)
	case err != nil:
		return nil, err
	case !st.IsDir() && !strings.HasSuffix(top, suffix):
		return nil, exit.Usagef("%s is no Starlark file: its name does not end in %s", arg, suffix)
	case !st.IsDir():
		return []file{{path: top, name: arg}}, nil
	}
	var files []file
	err = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != top && (strings.HasPrefix(e.Name(), ".") || path == s.ResultsDir()):
			return filepath.SkipDir
		case e.Type().IsRegular() && strings.HasSuffix(path, suffix):
			rel, err := filepath.Rel(top, path)
			if err != nil {
				return err
			}
			files = append(files, file{path: path, name: filepath.Join(arg, rel)})
		}
		return nil
	})
	return files, err
}

// read fills in what the file holds. What can't be Starlark is an error with its place.
func (f *file) read(s *session.Session) (err error) {
	if f.path == "" {
		f.data, err = io.ReadAll(io.LimitReader(s.In, lang.MaxFile))
	} else {
		f.data, err = engine.ReadSmall(f.path, lang.MaxFile)
	}
	return err
}

// replace writes the file anew, all at once, with the mode that it has. Also when root
// does it the file stays its owner's.
func (f *file) replace(data []byte) (err error) {
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return err
	}
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	out, err := renameio.NewPendingFile(path, renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	defer out.Cleanup() //nolint:errcheck // nothing is left of it after it has replaced the file
	if owner := before.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		err = out.Chown(int(owner.Uid), int(owner.Gid))
	}
	if _, werr := out.Write(data); err != nil || werr != nil {
		return fmt.Errorf("%s: %w", f.name, errors.Join(err, werr))
	}
	return out.CloseAtomicallyReplace()
}

// source is the file as it is looked at.
func (f *file) source() *style.File {
	return &style.File{Path: f.path, Name: f.name, Data: f.data}
}
