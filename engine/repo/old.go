package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/repo/internal/backend"
)

// The forerunner of b9 kept shared images with rsync in a directory
// b9_shared_images: NAME_BUILDID.b9si describes NAME_BUILDID.qcow2, .raw or
// .vmdk. Such a repository can be listed and pulled from. It has no digests.

const (
	oldDir  = "b9_shared_images"
	oldExt  = ".b9si"
	maxB9si = 64 << 10
)

// oldLayout is where such a repository's files are in its tree.
type oldLayout struct{ dir string }

// findOld looks for the old layout in t; nil if there is none.
func findOld(ctx context.Context, t backend.Backend) (*oldLayout, error) {
	for _, dir := range []string{oldDir, "."} {
		files, err := t.List(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found := slices.ContainsFunc(files, func(f fs.FileInfo) bool { return strings.HasSuffix(f.Name(), oldExt) })
		if found || dir == oldDir {
			return &oldLayout{dir}, nil
		}
	}
	return nil, nil
}

// list returns the versions, newest first by the date in their description,
// as the forerunner chose.
func (o *oldLayout) list(ctx context.Context, t backend.Backend, name string) ([]Version, error) {
	files, err := t.List(ctx, o.dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, f := range files {
		sizes[f.Name()] = f.Size()
	}
	found := make([]*Version, len(files))
	err = forEach(ctx, atOnce, files, func(ctx context.Context, i int, f fs.FileInfo) (err error) {
		if strings.HasSuffix(f.Name(), oldExt) {
			found[i], err = o.read(ctx, t, f, sizes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []Version
	for _, v := range found {
		if v != nil && (name == "" || v.Name == name) {
			all = append(all, *v)
		}
	}
	slices.SortStableFunc(all, func(a, b Version) int {
		return -strings.Compare(a.Created.Format(time.RFC3339)+a.Version, b.Created.Format(time.RFC3339)+b.Version)
	})
	return all, nil
}

// read returns the version that a description describes, or nil if its image
// is missing: a push of the forerunner could be interrupted between the two.
func (o *oldLayout) read(ctx context.Context, t backend.Backend, f fs.FileInfo, sizes map[string]int64) (*Version, error) {
	if f.Size() > maxB9si {
		return nil, nil
	}
	name := path.Join(o.dir, f.Name())
	b, err := backend.ReadPart(ctx, t, name, 0, f.Size())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed since it was listed
	}
	if err != nil {
		return nil, err
	}
	v, err := parseB9si(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	size, ok := sizes[oldImage(v)]
	if !ok {
		return nil, nil
	}
	v.Size, v.Data = size, size
	return &v, nil
}

// oldImage returns the name of the file with the image.
func oldImage(v Version) string { return v.Name + "_" + v.Version + "." + v.Format }

// parseB9si reads a description: a term such as
//
//	SharedImage (SharedImageName "web") (SharedImageDate "2014-07-18 12:00:00")
//	  (SharedImageBuildId "B1") QCow2 Ext4
//
// however it is broken into lines.
func parseB9si(text string) (Version, error) {
	fields := map[string]string{}
	for _, m := range regexp.MustCompile(`\b(\w+)\s+"([^"\\]*)"`).FindAllStringSubmatch(text, -1) {
		if _, twice := fields[m[1]]; !twice {
			fields[m[1]] = m[2]
		}
	}
	v := Version{Name: fields["SharedImageName"], Version: fields["SharedImageBuildId"], Created: oldDate(fields["SharedImageDate"])}
	for _, part := range []string{v.Name, v.Version} {
		if err := ValidName(part); err != nil {
			return Version{}, err
		}
	}
	for _, word := range regexp.MustCompile(`"[^"]*"|\w+`).FindAllString(text, -1) {
		switch word {
		case "QCow2", "Raw", "Vmdk":
			v.Format = strings.ToLower(word)
		case "Ext4", "ISO9660", "VFAT":
			v.FileSystems = []string{strings.ToLower(word)}
		case "Ext4_64":
			v.FileSystems = []string{"ext4"}
		case "NoFileSystem":
			v.FileSystems = nil
		}
	}
	if v.Format == "" {
		return Version{}, errors.New("it names no format (QCow2, Raw or Vmdk)")
	}
	return v, nil
}

// oldDate reads a date in one of the forms that the forerunner has written. For
// another form it returns the zero time.
func oldDate(text string) time.Time {
	for _, layout := range []string{"2006-01-02-15:04:05", "2006-01-02 15:04:05", time.RFC3339, time.ANSIC, time.UnixDate, time.RFC1123, "2006-01-02"} {
		if t, err := time.Parse(layout, strings.TrimSuffix(text, " UTC")); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// pull copies an image to dst and leaves holes where it has zeros.
func (o *oldLayout) pull(ctx context.Context, r *Repo, v Version, dst string) (Transfer, error) {
	m := r.newMeter(v.Name, v.Size)
	err := o.copy(ctx, r.files, v, dst, m)
	return m.end(), err
}

func (o *oldLayout) copy(ctx context.Context, t backend.Backend, v Version, dst string, m *meter) error {
	in, err := t.Open(ctx, path.Join(o.dir, oldImage(v)))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := newPartial(dst)
	if err != nil {
		return err
	}
	defer out.Close()
	err = copyBlocks(ctx, out, in, v.Size, m)
	if err == nil {
		err = errors.Join(out.Chmod(0o644), out.Sync())
	}
	if err == nil {
		err = os.Rename(out.Name(), dst)
	}
	if err != nil {
		os.Remove(out.Name())
		return err
	}
	return newfile.SyncDir(filepath.Dir(dst))
}

// copyBlocks copies size bytes, and leaves out blocks of zeros.
func copyBlocks(ctx context.Context, out *os.File, from backend.Reader, size int64, m *meter) error {
	if err := out.Truncate(size); err != nil {
		return err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(from, 0, size), stretchSize)
	var buf [leafSize]byte
	for off := int64(0); off < size; off += leafSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		block := buf[:min(leafSize, size-off)]
		n, err := io.ReadFull(in, block)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("%w: it ends at %d, before %d", ErrDamaged, off+int64(n), size)
		}
		if err == nil && sparse.IsZero(block) {
			m.count(0, 0, int64(n))
			continue
		}
		if err == nil {
			_, err = out.WriteAt(block, off)
		}
		if err != nil {
			return err
		}
		m.count(int64(n), 0, 0)
	}
	return nil
}
