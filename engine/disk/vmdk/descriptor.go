package vmdk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/near"
)

// descriptor is the text that describes a vmdk.
type descriptor struct {
	kind    string // createType
	parent  string // parentCID; "ffffffff" if there is none
	extents []extent
}

// extent is a line of a descriptor. Length and offset are bytes.
type extent struct {
	kind   string // FLAT, VMFS, SPARSE or ZERO
	name   string
	length int64
	offset int64
}

// maxExtents bounds the files that one descriptor can make us open.
const maxExtents = 1024

// isDescriptor reports whether the text begins like a descriptor, after blank
// lines and other comments.
func isDescriptor(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if line[0] != '#' {
			return false
		}
		if strings.EqualFold(strings.ReplaceAll(string(line), " ", ""), "#DiskDescriptorFile") {
			return true
		}
	}
	return false
}

// parseDescriptor reads a descriptor, which ends at the first NUL. Its words are
// not case-sensitive. A line that is neither an extent nor KEY = VALUE is an error:
// what is skipped could be the disk.
func parseDescriptor(text []byte) (*descriptor, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	d := &descriptor{parent: "ffffffff"}
	var total int64
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if key, value, ok := setting(line); ok {
			d.set(key, value)
			continue
		}
		e, err := parseExtent(line)
		if err != nil {
			return nil, fmt.Errorf("vmdk descriptor, line %.100q: %w", line, err)
		}
		d.extents = append(d.extents, e)
		if total += e.length; len(d.extents) > maxExtents || total > 1<<62 {
			return nil, errors.New("corrupt vmdk descriptor: too many extents or too large")
		}
	}
	return d, nil
}

// setting reads `KEY = VALUE`, where the key is one word.
func setting(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	return key, strings.Trim(strings.TrimSpace(value), `"`), ok && key != "" && !strings.ContainsAny(key, " \t\"")
}

func (d *descriptor) set(key, value string) {
	switch strings.ToLower(key) {
	case "createtype":
		d.kind = value
	case "parentcid":
		d.parent = strings.ToLower(value)
	}
}

// parseExtent reads `ACCESS SECTORS KIND ["NAME" [OFFSET]]`.
func parseExtent(line string) (e extent, err error) {
	access, s := word(line)
	switch strings.ToUpper(access) {
	case "RW", "RDONLY":
	case "NOACCESS":
		return e, errors.New("an extent without access is not supported")
	default:
		return e, errors.New("it is neither an extent (RW, RDONLY or NOACCESS) nor KEY = VALUE: the file is damaged, or is none")
	}
	count, s := word(s)
	e.kind, s = word(s)
	e.kind = strings.ToUpper(e.kind)
	if e.length, err = sectors(count); err == nil && e.length == 0 {
		err = errors.New("an extent of no sectors")
	}
	if err != nil || e.kind == "ZERO" {
		return e, err
	}
	if !e.flat() && e.kind != "SPARSE" {
		return e, fmt.Errorf("extents of the kind %q are not supported (have FLAT, VMFS, SPARSE, ZERO)", e.kind)
	}
	s, ok := strings.CutPrefix(s, `"`)
	name, s, closed := strings.Cut(s, `"`)
	if !ok || !closed || name == "" {
		return e, errors.New("no file name in quotes")
	}
	e.name = name
	if at, _ := word(s); at != "" { // after it may come identifiers of partitions or devices
		e.offset, err = sectors(at)
	}
	if e.offset != 0 && e.kind == "SPARSE" {
		return e, errors.New("a sparse extent with an offset")
	}
	return e, err
}

// flat reports whether the file of e is the bytes of the disk: so are those that
// ESXi writes on its own file system.
func (e *extent) flat() bool { return e.kind == "FLAT" || e.kind == "VMFS" }

// word splits a line after its first word and the blanks behind it.
func word(s string) (first, rest string) {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}

// sectors returns the bytes of a decimal number of sectors.
func sectors(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<50 {
		return 0, fmt.Errorf("bad number of sectors %.30q", s)
	}
	return n * sector, nil
}

// refuseParent returns an error for a snapshot or linked clone.
func (d *descriptor) refuseParent() error {
	if d.parent != "ffffffff" {
		return fmt.Errorf("vmdk is a snapshot or linked clone (parentCID %.20s), which is not supported: consolidate it first", d.parent)
	}
	return nil
}

func (d *descriptor) needsFiles() bool {
	return slices.ContainsFunc(d.extents, func(e extent) bool { return e.kind != "ZERO" })
}

// adapter is a controller that a descriptor can name, with the geometry of a disk
// behind it: how many heads, and how many cylinders at most.
type adapter struct {
	name             string
	heads, cylinders int64
}

var adapters = []adapter{{"lsilogic", 255, 65535}, {"buslogic", 255, 65535}, {"ide", 16, 16383}, {"legacyESX", 255, 65535}}

// describe returns the descriptor of a disk in one file with the given
// subformat and capacity in sectors. The content ID depends on these and the name.
func describe(subformat, file string, capacity int64, o image.WriteOptions) (string, error) {
	name := cmp.Or(o.Name, filepath.Base(file))
	if strings.ContainsAny(name, "\"\n\r\x00") || len(name) > 255 {
		return "", fmt.Errorf("a vmdk can't record the file name %q", name)
	}
	a, err := findAdapter(o.Adapter)
	if err != nil {
		return "", err
	}
	kind, offset := "SPARSE", ""
	if subformat == Flat {
		kind, offset = "FLAT", " 0"
	}
	cylinders := min(capacity/(a.heads*63), a.cylinders)
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d %s "%s"%s

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "63"
ddb.adapterType = "%s"
`, contentID(subformat, name, capacity), subformat, capacity, kind, name, offset, cylinders, a.heads, a.name), nil
}

// findAdapter returns the adapter of that name; without one, the first.
func findAdapter(name string) (adapter, error) {
	var names []string
	for _, a := range adapters {
		if a.name == name || name == "" {
			return a, nil
		}
		names = append(names, a.name)
	}
	return adapter{}, fmt.Errorf("unknown vmdk adapter %q (have %s)%s", name, strings.Join(names, ", "), near.Hint(name, names))
}
