package difference

import (
	"cmp"
	"slices"
	"strings"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/fsys/tree"
)

// comparePackages compares the Debian packages that are installed according to dpkg.
func comparePackages(a, b *tree.Inode) ([]output.PackageDiff, error) {
	x, err := packagesOf(a)
	if err != nil {
		return nil, err
	}
	y, err := packagesOf(b)
	if err != nil {
		return nil, err
	}
	var list []output.PackageDiff
	for name, version := range x {
		if y[name] != version {
			list = append(list, output.PackageDiff{Package: name, A: version, B: y[name]})
		}
	}
	for name, version := range y {
		if _, ok := x[name]; !ok {
			list = append(list, output.PackageDiff{Package: name, B: version})
		}
	}
	slices.SortFunc(list, func(p, q output.PackageDiff) int { return cmp.Compare(p.Package, q.Package) })
	return list, nil
}

// packagesOf are the versions of the packages by name and architecture, "bash:amd64", as
// the status file of dpkg has them, or the files of status.d of images without dpkg.
func packagesOf(root *tree.Inode) (map[string]string, error) {
	dir := root
	for _, name := range []string{"var", "lib", "dpkg"} {
		if dir = child(dir, name); dir == nil || !dir.IsDir() {
			return nil, nil
		}
	}
	var files []*tree.Inode
	if f := child(dir, "status"); f != nil && f.IsRegular() {
		files = append(files, f)
	}
	if d := child(dir, "status.d"); d != nil {
		for _, e := range d.Entries {
			if e.Inode.IsRegular() && !strings.HasSuffix(e.Name, ".md5sums") {
				files = append(files, e.Inode)
			}
		}
	}
	all := map[string]string{}
	for _, f := range files {
		text, err := bytesOf(f)
		if err != nil {
			return nil, err
		}
		for paragraph := range strings.SplitSeq(string(text), "\n\n") {
			addPackage(all, paragraph)
		}
	}
	return all, nil
}

// addPackage adds that of a paragraph, which has "Name: value" a line, if it is installed.
func addPackage(all map[string]string, paragraph string) {
	fields := map[string]string{}
	for line := range strings.Lines(paragraph) {
		if name, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' {
			fields[name] = strings.TrimSpace(value)
		}
	}
	status, ok := fields["Status"]
	if fields["Package"] == "" || ok && !strings.HasSuffix(status, " installed") {
		return
	}
	all[fields["Package"]+":"+fields["Architecture"]] = fields["Version"]
}
