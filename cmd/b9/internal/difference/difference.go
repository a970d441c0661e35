// Package difference tells in what two images or directories differ: partitions, file
// systems, files and Debian packages.
//
//	Side     one of the two, open
//	Compare  the differences, as the document that b9 prints
//	Words    the document for people
//
// It mounts nothing. File systems that engine/fsys does not read are compared by bytes.
package difference

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/tree"
)

// Side is one of two things that are compared: a whole image, or what is in a directory or
// a file system.
type Side struct {
	Name  string
	Image disk.Image  // nil for files
	Files tree.Reader // nil for an image
	Path  string      // of what is compared in Files; "" for all
}

// Compare compares the two, which have the same of Image and Files.
func Compare(ctx context.Context, a, b Side) (output.Diff, error) {
	d := output.Diff{A: a.Name, B: b.Name}
	var err error
	switch {
	case a.Image == nil && b.Image == nil:
		var v output.VolumeDiff
		if v.FileDiffs, err = compareFiles(ctx, a, b); err == nil && !v.FileDiffs.Same() {
			d.Volumes = []output.VolumeDiff{v}
		}
	case a.Image != nil && b.Image != nil:
		err = compareImages(ctx, a.Image, b.Image, &d)
	default:
		err = fmt.Errorf("%s and %s: one is an image, and the other one a directory: name a file system of the image, as in %s:1:/", a.Name, b.Name, a.Name)
	}
	d.Same = err == nil && len(d.Changes) == 0 && d.Offset == nil && len(d.Volumes) == 0
	return d, err
}

// compareImages compares images by what is in them.
func compareImages(ctx context.Context, a, b disk.Image, d *output.Diff) error {
	at, err := disk.Compare(ctx, a, b)
	if err != nil || at < 0 && a.Size() == b.Size() {
		return err
	}
	d.Changes = changes(nil, "size", fmt.Sprint(a.Size()), fmt.Sprint(b.Size()))
	x, err := contentOf(a)
	if err != nil {
		return fmt.Errorf("%s: %w", d.A, err)
	}
	y, err := contentOf(b)
	if err != nil {
		return fmt.Errorf("%s: %w", d.B, err)
	}
	d.Changes = changes(d.Changes, "content", x.kind(), y.kind())
	switch {
	case x.kind() != y.kind() || x.table == nil && x.info.Type == "":
		d.Offset = offsetOf(at)
		d.Lines = imageLines(a, b)
	case x.table != nil:
		return compareTables(ctx, a, b, x.table, y.table, at, d)
	default:
		v, err := compareVolumes(ctx, a, b, x.info, y.info)
		if err == nil && v != nil {
			d.Volumes = append(d.Volumes, *v)
		}
		return err
	}
	return nil
}

// content is what is recognised in an image.
type content struct {
	info  tree.Info
	table *partition.Table // nil for none
}

func contentOf(img disk.Image) (c content, err error) {
	if c.info, err = fsys.ProbeAt(img, img.Size()); err != nil || c.info.Type != "" {
		return c, err
	}
	if t, err := partition.ReadTable(img, 0); err == nil { // there need not be one
		c.table = t
	}
	return c, nil
}

func (c content) kind() string {
	switch {
	case c.table != nil:
		return c.table.Kind + " partitions"
	case c.info.Type != "":
		return c.info.Type + " file system"
	}
	return "bytes"
}

// offsetOf is an offset that there is.
func offsetOf(at int64) *int64 {
	if at < 0 {
		return nil
	}
	return &at
}

// compareTables compares what tables say, and the partitions that both have. What differs
// outside of partitions and is not said there either is told by the offset.
func compareTables(ctx context.Context, a, b disk.Image, x, y *partition.Table, at int64, d *output.Diff) error {
	d.Changes = changes(d.Changes, "sector", fmt.Sprint(x.SectorSize), fmt.Sprint(y.SectorSize))
	d.Changes = changes(d.Changes, "disk ID", x.ID, y.ID)
	d.Changes = changes(d.Changes, "backup", x.Backup, y.Backup)
	numbers := map[int][2]*partition.Partition{}
	for i, t := range []*partition.Table{x, y} {
		for j := range t.Partitions {
			both := numbers[t.Partitions[j].Number]
			both[i] = &t.Partitions[j]
			numbers[t.Partitions[j].Number] = both
		}
	}
	for _, n := range sorted(numbers) {
		p, q := numbers[n][0], numbers[n][1]
		v := &output.VolumeDiff{Partition: n}
		switch {
		case p == nil:
			v.Only = "b"
		case q == nil:
			v.Only = "a"
		case p.Extended() || q.Extended():
			v.Changes = entryChanges(p, q)
		default:
			got, err := comparePartitions(ctx, disk.Section(a, p.Start, p.Length), disk.Section(b, q.Start, q.Length))
			if err != nil {
				return fmt.Errorf("partition %d: %w", n, err)
			}
			if got != nil {
				v = got
				v.Partition = n
			}
			v.Changes = append(entryChanges(p, q), v.Changes...)
		}
		if v.Only != "" || len(v.Changes) > 0 || v.Offset != nil || !v.FileDiffs.Same() {
			d.Volumes = append(d.Volumes, *v)
		}
	}
	if len(d.Changes) == 0 && len(d.Volumes) == 0 {
		d.Offset = offsetOf(at)
	}
	return nil
}

// entryChanges compares what a table says of a partition.
func entryChanges(p, q *partition.Partition) (list []output.Differs) {
	for _, c := range []struct{ what, a, b string }{
		{"start", fmt.Sprint(p.Start), fmt.Sprint(q.Start)}, {"partition size", fmt.Sprint(p.Length), fmt.Sprint(q.Length)},
		{"type", p.Type, q.Type}, {"name", p.Name, q.Name}, {"partition ID", p.ID, q.ID},
		{"bootable", fmt.Sprint(p.Bootable), fmt.Sprint(q.Bootable)}, {"attributes", fmt.Sprintf("%#x", p.Attributes), fmt.Sprintf("%#x", q.Attributes)},
	} {
		list = changes(list, c.what, c.a, c.b)
	}
	return list
}

func comparePartitions(ctx context.Context, a, b disk.Image) (*output.VolumeDiff, error) {
	x, err := fsys.ProbeAt(a, a.Size())
	if err != nil {
		return nil, err
	}
	y, err := fsys.ProbeAt(b, b.Size())
	if err != nil {
		return nil, err
	}
	return compareVolumes(ctx, a, b, x, y)
}

// compareVolumes compares two file systems, or bytes; nil where nothing differs.
func compareVolumes(ctx context.Context, a, b disk.Image, x, y tree.Info) (*output.VolumeDiff, error) {
	at, err := disk.Compare(ctx, a, b)
	if err != nil || at < 0 {
		return nil, err
	}
	v := &output.VolumeDiff{FileSystem: x.Type}
	for _, c := range []struct{ what, a, b string }{
		{"file system", x.Type, y.Type}, {"label", x.Label, y.Label}, {"UUID", x.UUID, y.UUID},
		{"file system size", fmt.Sprint(x.Size), fmt.Sprint(y.Size)}, {"block size", fmt.Sprint(x.BlockSize), fmt.Sprint(y.BlockSize)},
	} {
		v.Changes = changes(v.Changes, c.what, c.a, c.b)
	}
	r, rerr := fsys.NewReader(a, a.Size())
	s, serr := fsys.NewReader(b, b.Size())
	if x.Type == "" || y.Type == "" || rerr != nil || serr != nil {
		v.Offset = offsetOf(at) // what has no files, or none that can be read
		return v, nil
	}
	if v.FileDiffs, err = compareFiles(ctx, Side{Files: r}, Side{Files: s}); err != nil {
		return nil, err
	}
	if len(v.Changes) == 0 && v.FileDiffs.Same() {
		v.Offset = offsetOf(at)
	}
	return v, nil
}

// changes adds what differs.
func changes(list []output.Differs, what, a, b string) []output.Differs {
	if a != b {
		list = append(list, output.Differs{What: what, A: a, B: b})
	}
	return list
}

func sorted[V any](m map[int]V) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

const (
	longestText = 256 << 10 // bytes of texts of which lines are compared
	mostLines   = 200       // of a difference
)

// imageLines compares images that are texts: results such as files.
func imageLines(a, b disk.Image) []string {
	if a.Size() > longestText || b.Size() > longestText {
		return nil
	}
	x, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size()))
	if err != nil {
		return nil
	}
	y, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return nil
	}
	// The last sector of a raw image may be longer than the file.
	return lines(bytes.TrimRight(x, "\x00"), bytes.TrimRight(y, "\x00"))
}

// lines is the difference of two texts, as diff -u has it but for its head; nil for what
// is no text.
func lines(a, b []byte) []string {
	if !isText(a) || !isText(b) {
		return nil
	}
	text := string(diff.Diff("a", a, "b", b))
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(all) < 4 {
		return nil
	}
	all = all[3:] // diff a b, --- a, +++ b
	if len(all) > mostLines {
		all = append(all[:mostLines:mostLines], fmt.Sprintf("(%s left out)", output.Count(len(all)-mostLines, "line is", "lines are")))
	}
	return all
}

func isText(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsRune(b, 0) }
