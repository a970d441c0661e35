// Package image holds the commands on disk images that are plain files, below
// `b9 image`.
//
//	Command  `b9 image`
//	Flags    how an image is opened: its format and its backing files
//	Open     opens an image as the flags say
//
// Formats, file systems and partition tables are those of engine/disk and
// engine/fsys; nothing here reads or writes one, and no workspace is needed.
package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys/unpack"
)

// Command is `b9 image`, with the commands below it.
func Command(p *session.Program) *cobra.Command {
	cmd := &cobra.Command{Use: "image"}
	cmd.AddCommand(info(p), convert(p), resize(p), partitions(p), replace(p), compare(p), check(p))
	return cmd
}

// Flags say how an image is opened. The zero value guesses its format.
type Flags struct {
	format  string
	backing []string
	extents bool // a vmdk descriptor may open the files that it names
}

// Register adds the flags to a command.
func (f *Flags) Register(cmd *cobra.Command) {
	f.RegisterAs(cmd, "the image is in `FORMAT`: "+strings.Join(formatNames(), ", ")+" (default: guessed)")
}

// RegisterAs adds the flags to a command for which usage describes --format.
func (f *Flags) RegisterAs(cmd *cobra.Command, usage string) {
	fl := cmd.Flags()
	fl.StringVarP(&f.format, "format", "f", "", usage)
	fl.StringArrayVar(&f.backing, "backing", nil, "open the backing file `FORMAT:PATH` under the image; again for the one under that")
	fl.BoolVar(&f.extents, "extents", false, "let a vmdk descriptor open the files it names beside it")
}

// Check refuses a format that is none.
func (f *Flags) Check() error {
	if _, err := disk.Lookup(f.format); err != nil && f.format != "" {
		return exit.Usage(err)
	}
	return nil
}

func formatNames() []string {
	var names []string
	for _, f := range disk.Formats() {
		names = append(names, f.Name())
	}
	return names
}

// resolve returns the path of an image and its format.
func resolve(p *session.Program, name string, f *Flags) (path, format string, err error) {
	if path, err = p.Path(name); err != nil {
		return "", "", err
	}
	if f.format != "" {
		return path, f.format, f.Check()
	}
	format, err = Detect(path)
	return path, format, err
}

// Detect guesses the format of a file. What is packed is not taken for a raw image.
func Detect(path string) (string, error) {
	format, err := disk.Detect(path)
	if errors.As(err, new(*disk.UnreadError)) {
		return "", fmt.Errorf("%s: %w; say -f raw if it is raw nevertheless", path, err)
	}
	if err != nil || format != "raw" {
		return format, err
	}
	kind, err := unpack.FileKind(path)
	if err == nil && kind != "" {
		err = fmt.Errorf("%s: it begins like what %s made: unpack it first, or say -f raw if it is raw", path, kind)
	}
	return format, err
}

// options are those for opening with the declared backing files.
func (f *Flags) options(p *session.Program) (disk.OpenOptions, error) {
	o := disk.OpenOptions{Extents: f.extents}
	for i := len(f.backing) - 1; i >= 0; i-- {
		format, name, ok := strings.Cut(f.backing[i], ":")
		if _, err := disk.Lookup(format); !ok || err != nil {
			return o, exit.Usagef("--backing %s: want FORMAT:PATH, such as raw:base.raw", f.backing[i])
		}
		path, err := p.Path(name)
		if err != nil {
			return o, err
		}
		o = disk.OpenOptions{Extents: f.extents, Backing: disk.BackedBy(path, format, o)}
	}
	return o, nil
}

// Open opens the image as the flags say.
func Open(p *session.Program, name string, f *Flags) (disk.Image, error) {
	path, format, err := resolve(p, name, f)
	if err != nil {
		return nil, err
	}
	o, err := f.options(p)
	if err != nil {
		return nil, err
	}
	img, err := disk.Open(path, format, o)
	return img, permit(name, err)
}

// permit says which flag lets an image open the other files that it needs.
func permit(name string, err error) error {
	switch {
	case err != nil && strings.Contains(err.Error(), "OpenOptions.Backing"):
		return fmt.Errorf("%s: the image stands on a backing file, which is opened only if --backing FORMAT:PATH names it", name)
	case err != nil && strings.Contains(err.Error(), "OpenOptions.Extents"):
		return fmt.Errorf("%s: the image keeps its data in other files, which are opened only with --extents", name)
	}
	return err
}
