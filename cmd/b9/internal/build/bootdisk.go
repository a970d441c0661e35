package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"b9.build/b9/builtins/image"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/guest"
	imagefile "b9.build/b9/cmd/b9/internal/image"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/store"
)

// isImageFile reports whether an argument of run is a file, and not a target.
func isImageFile(s *session.Session, arg string) bool {
	if strings.HasPrefix(arg, "//") || strings.HasSuffix(arg, ".star") {
		return false
	}
	name, err := s.Path(arg)
	if err != nil {
		return false
	}
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// hostFile is a part of a machine that is a file of the user's.
type hostFile string

// Expose implements part.
func (f hostFile) Expose(context.Context) (*engine.Exposed, error) {
	return &engine.Exposed{Path: string(f)}, nil
}

// Fork implements part.
func (f hostFile) Fork(ctx context.Context, dst string) error {
	return store.CopySparse(ctx, string(f), dst)
}

func (f hostFile) origin() string {
	st, err := os.Stat(string(f))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d bytes of %s", st.Size(), st.ModTime().UTC())
}

// bootFile starts the machine of an image file.
func bootFile(ctx context.Context, s *session.Session, name string, argv []string, in entering, o guest.Options) error {
	file, err := s.Path(name)
	if err != nil {
		return err
	}
	format, err := imagefile.Detect(file)
	if err != nil {
		return err
	}
	img, err := imagefile.Open(s.Program, name, &imagefile.Flags{})
	if err != nil {
		return fmt.Errorf("%w; a machine is started from one whole file, such as `b9 image convert` makes", err)
	}
	files := &machineFiles{session: s, title: name, kept: file + ".kept"}
	if err := files.disk(filepath.Base(file), format, img, hostFile(file)); err != nil {
		return err
	}
	return files.boot(ctx, argv, in, o)
}

// bootDisk starts a machine of the disk that a target is; flag asked for that.
func bootDisk(ctx context.Context, s *session.Session, b *Built, flag string, argv []string, in entering, o guest.Options) error {
	t := b.Graph.Targets[0]
	none := func(why string) error {
		return exit.Usagef("%s is for machines, and %s is none: %s", flag, t, why)
	}
	if len(t.Refs) != 1 {
		return none("vm() of @b9//vm.star makes one of a disk")
	}
	ref := t.Refs[0]
	out, err := ref.Node.Declared(ref.Output)
	if err != nil {
		return err
	}
	format := formatOf(t, out)
	if _, _, over := image.Beneath(ref); format == "" || over {
		return none("vm() of @b9//vm.star makes one of a disk")
	}
	img, err := b.Open(ctx, ref, format)
	if err != nil {
		return err
	}
	files := &machineFiles{session: s, title: t.String()}
	file := "disk." + format
	if list := t.Placements(); len(list) > 0 {
		files.results, file = filepath.Join(s.ResultsDir(), filepath.FromSlash(path.Dir(list[0].Path))), path.Base(list[0].Path)
	}
	files.kept = filepath.Join(files.results, partOf(file)) + ".kept"
	if err := files.disk(file, format, img, artifact{b.Result.Artifact(ref)}); errors.Is(err, guest.ErrNoLoader) {
		return none(guest.ErrNoLoader.Error())
	} else if err != nil {
		return err
	}
	return files.boot(ctx, argv, in, o)
}

// disk makes the machine of one disk, which it closes.
func (f *machineFiles) disk(file, format string, img disk.Image, is part) error {
	m, err := guest.Disk(file, file, format, img)
	if err = errors.Join(err, img.Close()); err != nil {
		return fmt.Errorf("%s: %w", f.title, err)
	}
	f.machine, f.parts = m, map[string]part{partOf(file): is}
	return nil
}
