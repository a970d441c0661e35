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
	kind   string // FLAT, SPARSE or ZERO
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

// parseDescriptor reads a descriptor, which ends at the first NUL.
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
		access, rest, _ := strings.Cut(line, " ")
		if access == "RW" || access == "RDONLY" || access == "NOACCESS" {
			e, err := parseExtent(access, rest)
			if err != nil {
				return nil, fmt.Errorf("vmdk descriptor, line %.100q: %w", line, err)
			}
			d.extents = append(d.extents, e)
			if total += e.length; len(d.extents) > maxExtents || total > 1<<62 {
				return nil, errors.New("corrupt vmdk descriptor: too many extents or too large")
			}
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			d.set(strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return d, nil
}

func (d *descriptor) set(key, value string) {
	switch strings.ToLower(key) {
	case "createtype":
		d.kind = value
	case "parentcid":
		d.parent = strings.ToLower(value)
	}
}

// parseExtent reads `SECTORS KIND ["NAME" [OFFSET]]`.
func parseExtent(access, s string) (e extent, err error) {
	if access == "NOACCESS" {
		return e, errors.New("an extent without access is not supported")
	}
	count, s, _ := strings.Cut(strings.TrimSpace(s), " ")
	e.kind, s, _ = strings.Cut(strings.TrimSpace(s), " ")
	if e.length, err = sectors(count); err != nil {
		return e, err
	}
	if e.kind == "ZERO" {
		return e, nil
	}
	if e.kind != "FLAT" && e.kind != "SPARSE" {
		return e, fmt.Errorf("extents of the kind %q are not supported (have FLAT, SPARSE, ZERO)", e.kind)
	}
	s, ok := strings.CutPrefix(strings.TrimSpace(s), `"`)
	name, s, closed := strings.Cut(s, `"`)
	if !ok || !closed || name == "" {
		return e, errors.New("no file name in quotes")
	}
	e.name = name
	if s = strings.TrimSpace(s); s != "" {
		s, _, _ = strings.Cut(s, " ") // after it may come identifiers of partitions or devices
		e.offset, err = sectors(s)
	}
	if e.offset != 0 && e.kind == "SPARSE" {
		return e, errors.New("a sparse extent with an offset")
	}
	return e, err
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

// describe returns the descriptor of a single sparse file with the given
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
	cylinders := min(capacity/(a.heads*63), a.cylinders)
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "63"
ddb.adapterType = "%s"
`, contentID(subformat, name, capacity), subformat, capacity, name, cylinders, a.heads, a.name), nil
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
