package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
)

// prepare returns the real path of dir, in which a store is ready.
func prepare(dir string, opts Options) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("open store %s: %w", dir, err)
	}
	version, err := os.ReadFile(filepath.Join(abs, versionFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (isUnwritten(version) || string(version) == formatLine && !isComplete(abs)) {
		if err := create(abs, opts); err != nil && !(string(version) == formatLine && isReadOnly(err)) {
			return "", spaceError(abs, abs, fmt.Errorf("create store %s: %w", dir, err))
		}
		version, err = []byte(formatLine), nil
	}
	if err != nil {
		return "", fmt.Errorf("open store %s: %w", dir, err)
	}
	if string(version) != formatLine {
		return "", fmt.Errorf("store %s has format %.40q but this b9 needs %q: choose another directory, or remove this one to start afresh",
			dir, version, formatLine)
	}
	return filepath.EvalSymlinks(abs)
}

// isUnwritten reports whether VERSION is one that a power loss has cut short: some of its
// bytes, or zeros in place of them.
func isUnwritten(version []byte) bool {
	text := strings.TrimRight(string(version), "\x00")
	return text != formatLine && strings.HasPrefix(formatLine, text)
}

// isComplete reports whether everything is there that create makes. Some file systems
// keep VERSION, which was flushed, through a power loss and lose directories that were
// made before it.
func isComplete(dir string) bool {
	return hasNames(dir, subdirs) && hasNames(filepath.Join(dir, locksDir), lockNames)
}

func hasNames(dir string, names []string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	there, err := f.Readdirnames(-1)
	missing := func(name string) bool { return !slices.Contains(there, name) }
	return err == nil && !slices.ContainsFunc(names, missing)
}

// isReadOnly reports whether err says that nothing may be written.
func isReadOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}

// lockNames are the files that locks are held on.
var lockNames = []string{"gate", "keys", "collect", "results", "scratch"}

// create makes the directories, and VERSION last, when they are on the disk. A creation
// that was interrupted is completed by the next opening, which also makes what is
// missing for another reason, and several processes may create the same store.
func create(dir string, opts Options) error {
	if err := refuseForeign(dir); err != nil {
		return err
	}
	for _, d := range subdirs {
		if err := newfile.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	for _, name := range lockNames {
		if err := touchFile(filepath.Join(dir, locksDir, name)); err != nil {
			return err
		}
	}
	if err := flushNew(dir, opts); err != nil {
		return err
	}
	if err := writeVersion(filepath.Join(dir, versionFile), opts); err != nil || opts.NoSync {
		return err
	}
	return errors.Join(newfile.SyncDir(dir), newfile.SyncDir(filepath.Dir(dir)))
}

// flushNew flushes the file system of a new store: its directories are in it then.
func flushNew(dir string, opts Options) error {
	if opts.NoSync {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncfs(f), f.Close())
}

// writeVersion needs no temporary name: the write is so small that nobody
// reads half of it, and an empty file counts as none.
func writeVersion(path string, opts Options) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(formatLine); err != nil || opts.NoSync {
		return err
	}
	return f.Sync()
}

// otherNames are what a store has beside its directories and VERSION, made by it and by
// other packages. Only beside a directory of objects do they tell of a store.
var otherNames = []string{indexFile, statFile, saltFile, suspectsFile, "tools.json", "cache", "shared"}

// refuseForeign fails when dir holds anything that no store has. Where there is a VERSION,
// another process has just got ahead of this one; a store that has lost it is completed.
func refuseForeign(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isVersion := func(e fs.DirEntry) bool { return e.Name() == versionFile }
	if slices.ContainsFunc(entries, isVersion) {
		return nil
	}
	isStore := hasNames(dir, []string{objectsDir})
	for _, e := range entries {
		if name := e.Name(); name != "lost+found" && !slices.Contains(subdirs, name) && !(isStore && slices.Contains(otherNames, name)) {
			return fmt.Errorf("it holds %q and is no store: choose an empty directory", name)
		}
	}
	return nil
}
