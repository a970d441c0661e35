package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
)

const resultsTag = "b9 results 1 "

// NameResult keeps objects from being collected for as long as they are the
// result of the label in the workspace, and that directory exists. It
// replaces what was named before; no objects remove the name.
func (s *Store) NameResult(workspace, label string, objs []Object) error {
	return s.NameResults(workspace, map[string][]Object{label: objs})
}

// NameResults is NameResult for many labels at once. Names that it is not
// given stay, and when nothing changes nothing is written. In a store that can only be
// read nothing is collected by this process, and nothing is named.
func (s *Store) NameResults(workspace string, results map[string][]Object) error {
	lines := make(map[string]string, len(results))
	for label, objs := range results {
		lines[strconv.Quote(label)] = resultLine(label, objs)
	}
	return s.rename(workspace, func(old []byte) []byte { return withResults(workspace, old, lines) })
}

// NameLinks keeps objects from being collected for as long as a symbolic link at
// the path that each has in the map leads to it. All are in the directory of results dir.
// The links come afterwards: until this Store is closed they may be missing.
func (s *Store) NameLinks(dir string, links map[string]Object) error {
	return s.rename(dir, func(old []byte) []byte {
		changed := map[string]string{}
		if _, lines, err := splitResults(old); err == nil {
			for quoted, line := range lines {
				if path, objs, err := parseResult(quoted, line); err == nil && isLink(path) && !s.linked(path, objs) {
					changed[quoted] = ""
				}
			}
		}
		for path, o := range links {
			changed[strconv.Quote(path)] = resultLine(path, []Object{o})
		}
		return withResults(dir, old, changed)
	})
}

// isLink tells the name of a link, an absolute path, from a label.
func isLink(name string) bool { return filepath.IsAbs(name) && !strings.HasPrefix(name, "//") }

// linked reports whether there is a link at the path that leads to the object.
func (s *Store) linked(path string, objs []Object) bool {
	to, err := os.Readlink(path)
	return err == nil && len(objs) == 1 && to == s.Path(objs[0].Digest)
}

// ForgetResults takes away all names of results in the workspace, or directory of results.
func (s *Store) ForgetResults(workspace string) error {
	if s.readOnly != nil {
		return nil
	}
	lock, err := s.lockFile(s.lockPath("results"), flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	return removeIfThere(s.resultsPath(workspace))
}

// rename has change bring the list of a workspace up to date.
func (s *Store) rename(workspace string, change func(old []byte) []byte) error {
	if s.readOnly != nil {
		return nil
	}
	lock, err := s.lockFile(s.lockPath("results"), flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	path := s.resultsPath(workspace)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("name results: %w", err)
	}
	data := change(old)
	if bytes.Equal(data, old) {
		return nil
	}
	return s.writeDurably(path, data, 0o600)
}

// ResultsDigest changes when any name of a result in the workspace does. It
// is zero when there are none.
func (s *Store) ResultsDigest(workspace string) (Digest, error) {
	data, err := os.ReadFile(s.resultsPath(workspace))
	if errors.Is(err, fs.ErrNotExist) {
		return Digest{}, nil
	}
	if err != nil {
		return Digest{}, fmt.Errorf("names of results: %w", err)
	}
	return blake3.Sum256(data), nil
}

func (s *Store) resultsPath(workspace string) string {
	sum := blake3.Sum256([]byte(workspace))
	return filepath.Join(s.dir, resultsDir, Digest(sum).Hex())
}

// resultLine is the label, quoted, and kind and digest of each object; "" for
// no objects.
func resultLine(label string, objs []Object) string {
	if len(objs) == 0 {
		return ""
	}
	b := strconv.AppendQuote(nil, label)
	for _, o := range objs {
		b = append(append(append(b, ' '), o.Kind.String()...), ' ')
		b = append(b, o.Digest.String()...)
	}
	return string(b)
}

// withResults is the list of a workspace in which the lines of some quoted labels are others,
// or "" for none. Of a damaged list nothing else is left: these are what is known.
func withResults(workspace string, old []byte, lines map[string]string) []byte {
	type labelled struct{ label, line string }
	var all []labelled
	_, err := eachResult(string(old), func(label, line string) {
		if _, other := lines[label]; !other {
			all = append(all, labelled{label, line})
		}
	})
	if err != nil {
		all = nil
	}
	for label, line := range lines {
		if line != "" {
			all = append(all, labelled{label, line})
		}
	}
	slices.SortFunc(all, func(a, b labelled) int { return strings.Compare(a.label, b.label) })
	b := make([]byte, 0, len(old)+len(resultsTag)+len(workspace)+128*len(lines)+16)
	b = append(strconv.AppendQuote(append(b, resultsTag...), workspace), '\n')
	for _, l := range all {
		b = append(append(b, l.line...), '\n')
	}
	return b
}

// splitResults returns the workspace and the lines by quoted label.
func splitResults(data []byte) (workspace string, lines map[string]string, err error) {
	lines = make(map[string]string, bytes.Count(data, []byte("\n")))
	workspace, err = eachResult(string(data), func(label, line string) { lines[label] = line })
	if err != nil {
		return "", nil, err
	}
	return workspace, lines, nil
}

// eachResult calls fn for each line, with the quoted label, and returns the workspace.
func eachResult(data string, fn func(label, line string)) (workspace string, err error) {
	head, rest, _ := strings.Cut(data, "\n")
	quoted, ok := strings.CutPrefix(head, resultsTag)
	if workspace, err = strconv.Unquote(quoted); !ok || err != nil {
		return "", fmt.Errorf("not a list of results")
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSuffix(line, "\n")
		label, err := strconv.QuotedPrefix(line)
		if err != nil {
			return "", fmt.Errorf("bad line %.80q", line)
		}
		fn(label, line)
	}
	return workspace, nil
}

// parseResult reads a line: the label, and its objects.
func parseResult(quoted, line string) (label string, objs []Object, err error) {
	if label, err = strconv.Unquote(quoted); err == nil {
		objs, err = resultObjects(quoted, line)
	}
	return label, objs, err
}

// resultObjects reads the objects of a line.
func resultObjects(label, line string) ([]Object, error) {
	fields := strings.Fields(line[len(label):])
	if len(fields)%2 != 0 {
		return nil, fmt.Errorf("bad line %.80q", line)
	}
	var objs []Object
	for pair := range slices.Chunk(fields, 2) {
		var o Object
		if err := errors.Join(o.Kind.UnmarshalText([]byte(pair[0])), o.Digest.UnmarshalText([]byte(pair[1]))); err != nil {
			return nil, err
		}
		objs = append(objs, o)
	}
	return objs, nil
}

// roots returns the objects of all named results. Those of a workspace that
// is gone do not count; their paths are returned, too. A list that can't
// be read is an error: guessing would cost someone their results.
func (s *Store) roots() (objs []Object, gone []string, err error) {
	err = eachIn(filepath.Join(s.dir, resultsDir), func(path string, _ fs.FileInfo) error {
		found, exists, err := s.readRoots(path)
		if err != nil {
			return fmt.Errorf("results list %s: %w: remove it if it is damaged", path, err)
		}
		if !exists {
			gone = append(gone, path)
		}
		objs = append(objs, found...)
		return nil
	})
	return objs, gone, err
}

func (s *Store) readRoots(path string) (objs []Object, exists bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	workspace, lines, err := splitResults(data)
	if err != nil {
		return nil, false, err
	}
	if _, err := os.Lstat(workspace); errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	for quoted, line := range lines {
		name, found, err := parseResult(quoted, line)
		if err != nil {
			return nil, false, err
		}
		if !isLink(name) || s.linked(name, found) {
			objs = append(objs, found...)
		}
	}
	return objs, true, nil
}

// maxNotes is how many notes a store keeps: the newest.
const maxNotes = 64

// WriteNote keeps data under the key until something newer needs the place.
// A note only saves time: it is never flushed, and lost when it is damaged.
func (s *Store) WriteNote(key Digest, data []byte) error {
	dir := filepath.Join(s.dir, notesDir)
	if err := newfile.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	sum := blake3.Sum256(data)
	if err := s.writeQuickly(filepath.Join(dir, key.Hex()), append(sum[:], data...)); err != nil {
		return err
	}
	return dropOldNotes(dir)
}

// ReadNote returns what was last kept under the key.
func (s *Store) ReadNote(key Digest) ([]byte, bool) {
	data, err := os.ReadFile(filepath.Join(s.dir, notesDir, key.Hex()))
	if err != nil || len(data) < len(Digest{}) {
		return nil, false
	}
	sum, text := data[:len(Digest{})], data[len(Digest{}):]
	want := blake3.Sum256(text)
	return text, bytes.Equal(sum, want[:])
}

// MkdirAll makes a directory in which another package keeps something beside the store,
// and those above it. Each belongs to whom the one above belongs, also if root makes it.
func MkdirAll(dir string, mode fs.FileMode) error { return newfile.MkdirAll(dir, mode) }

// OpenFile opens a file of another package beside the store for reading and writing. One
// that it makes belongs to whom its directory belongs, also if root makes it. Flags of
// open(2) are added.
func OpenFile(path string, flags int, mode fs.FileMode) (*os.File, error) {
	return newfile.Open(path, flags, mode)
}

// WriteBeside gives the file of that name in the store's directory the content
// data, whole or not at all. Like a note it only saves time, and after a power loss
// it may be anything. The file is its owner's; the store never reads it.
func (s *Store) WriteBeside(name string, data []byte) error {
	return s.writeQuickly(filepath.Join(s.dir, name), data)
}

// ReplaceFile gives a file in a directory of the store the content data, whole or not
// at all, and returns when it survives a power loss. It is for what other packages keep.
func (s *Store) ReplaceFile(path string, data []byte) error {
	return s.writeDurably(path, data, 0o600)
}

func dropOldNotes(dir string) error {
	var notes []fs.FileInfo
	err := eachIn(dir, func(_ string, info fs.FileInfo) error {
		notes = append(notes, info)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(notes, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, note := range notes[:max(0, len(notes)-maxNotes)] {
		if err := removeIfThere(filepath.Join(dir, note.Name())); err != nil {
			return err
		}
	}
	return nil
}
