// Package b9_test holds what is checked of the source tree as a whole: which
// package may import which, and how long a file may grow.
package b9_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "b9.build/b9"

// maxLines bounds the length of a Go file, tests included.
const maxLines = 1000

// rule says what the packages at and below a path may import.
type rule struct {
	path     string   // import path below the module; covers the packages below it
	imports  []string // b9 packages it may import, beside those of its own path
	starlark bool     // whether it may import go.starlark.net
}

// floor is the ground floor: what every leaf may import, and what imports
// nothing of b9 above it.
var floor = []string{
	"engine/size", "engine/near", "engine/tool",
	"engine/internal/digest", "engine/internal/sparse", "engine/internal/flock", "engine/internal/toml", "engine/internal/blob", "engine/internal/position",
	"engine/internal/newfile", "engine/internal/charset", "engine/internal/layer", "engine/internal/overlay",
	"engine/internal/sshdtest", "engine/internal/seedtest",
}

// leaves import the ground floor, packages below their own path, and what
// between names.
var leaves = []string{
	"engine/store", "engine/container", "engine/disk", "engine/fsys",
	"engine/repo", "engine/content", "engine/config", "engine/ssh", "engine/efi", "engine/vm",
}

// between returns the leaves that a leaf may import.
func between(leaf string) []string {
	if leaf == "engine/repo" {
		return []string{"engine/ssh"}
	}
	return nil
}

// table is the design's list of packages, most particular path first. What a
// row does not name must not be imported; imports only point down.
func table() []rule {
	var rows []rule
	for _, p := range floor {
		row := rule{path: p}
		switch p {
		case "engine/internal/digest", "engine/internal/blob":
			row.imports = []string{"engine/internal/sparse"} // they tell holes from data
		case "engine/internal/layer":
			row.imports = []string{"engine/internal/blob", "engine/internal/digest", "engine/internal/sparse", "engine/internal/seedtest"} // what it makes, of blocks of which size, and their holes; for the tests
		case "engine/internal/overlay":
			row.imports = []string{"engine/internal/layer", "engine/internal/blob", "engine/internal/digest", "engine/internal/seedtest"} // what it shows as a file; for the tests
		case "engine/internal/toml":
			row.imports = []string{"engine/internal/position", "engine/internal/charset"} // of each key; of the text
		case "engine/internal/flock":
			row.imports = []string{"engine/internal/newfile"} // a lock's file belongs to whom its directory does
		case "engine/internal/charset":
			row.imports = []string{"engine/internal/position"} // of what is no text
		}
		rows = append(rows, row)
	}
	rows = append(rows, containers()...)
	for _, leaf := range leaves {
		rows = append(rows, rule{path: leaf, imports: append(between(leaf), floor...)})
	}
	low := slices.Concat(floor, leaves)
	below := append([]string{"builtins", "stdlib", "engine", "engine/container/backends"}, low...)
	rows = append(rows, commands(below)...)
	return append(rows,
		rule{path: "engine", imports: append([]string{"engine/store", "engine/container"}, floor...)},
		rule{path: "stdlib"},
		rule{path: "builtins", imports: append([]string{"stdlib", "engine"}, low...), starlark: true},
		rule{path: "examples", imports: below},
		rule{path: "", imports: below}, // tests of the whole, at the root
	)
}

// containers lists the packages that make containers. Nothing but the program
// imports them, so that what describes and runs steps links no libcontainer.
func containers() []rule {
	const room = "engine/container"
	may := append([]string{room}, floor...)
	var rows []rule
	for _, name := range []string{"/internal/nat", "/internal/group", "/internal/helper", "/embedded", "/libvirt", "/backends"} {
		row := rule{path: room + name, imports: slices.Clone(may)}
		if name == "/backends" {
			row.imports = append(row.imports, "engine/fsys", "engine/vm") // its tests run with engine/fsys/fuse, and in engine/vm/vmtest
		}
		rows = append(rows, row)
		may = append(may, room+name)
	}
	return rows
}

// commands lists the packages of the program: what every command stands on, then
// the commands by subject, which import each other where uses says so, then main.
func commands(below []string) []rule {
	const room = "cmd/b9/internal/"
	stand := []string{room + "exit", room + "output", room + "display", room + "command", room + "session"}
	rows := []rule{
		{path: room + "profile"},
		{path: room + "site"}, // a program of its own, which asks b9
		{path: room + "exit", imports: []string{"builtins"}},
		{path: room + "command", imports: []string{room + "exit", "engine/near"}},
		{path: room + "output", imports: below},
		{path: room + "diagram"},
		{path: room + "timeline", imports: append([]string{room + "output"}, below...)},
		{path: room + "display", imports: append([]string{room + "output", room + "timeline"}, below...)},
		{path: room + "query", imports: append([]string{room + "diagram"}, below...)},
		{path: room + "difference", imports: append([]string{room + "output", room + "display"}, below...)},
		{path: room + "page", imports: []string{room + "output", room + "timeline", room + "diagram", room + "display"}},
		{path: room + "manual", imports: below},
		{path: room + "unit", imports: below},
		{path: room + "reference", imports: append([]string{"stdlib"}, below...)},
		{path: room + "history", imports: append([]string{room + "output", room + "timeline", room + "display"}, below...)},
		{path: room + "doctor", imports: append([]string{room + "output", room + "display"}, below...)},
		{path: room + "log", imports: below},
		{path: room + "session", imports: append(slices.Concat(stand[:3], below), room+"log")},
		{path: room + "guest", imports: slices.Concat(stand, below)},
	}
	all := append([]string{room + "profile", room + "reference"}, stand...)
	for _, subject := range []struct {
		name string
		uses []string
	}{
		{"image", nil}, {"build", []string{room + "image", room + "history", room + "timeline", room + "page", room + "diagram", room + "query", room + "difference", room + "guest", room + "unit"}}, {"repository", nil}, {"upkeep", nil}, {"source", nil},
		{"inspect", []string{room + "doctor", room + "query", room + "manual", room + "reference"}}, {"lsp", []string{room + "inspect"}},
		{"files", []string{room + "build", room + "image", room + "difference"}},
	} {
		rows = append(rows, rule{path: room + subject.name, imports: slices.Concat(stand, subject.uses, below)})
		all = append(all, room+subject.name)
	}
	return append(rows, rule{path: "cmd/b9", imports: append(all, below...)})
}

// listed is the part of what "go list -json" prints that is looked at.
type listed struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	CgoFiles     []string
	EmbedFiles   []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// inModule returns a package's path below the module; ok is false for a
// package of another module.
func inModule(path string) (rel string, ok bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// find returns the row for a package path below the module.
func find(rows []rule, rel string) (rule, bool) {
	for _, r := range rows {
		if within(rel, r.path) {
			return r, true
		}
	}
	return rule{}, false
}

// within reports whether rel is path or lies below it.
func within(rel, path string) bool {
	return rel == path || path != "" && strings.HasPrefix(rel, path+"/")
}

// faults returns a sentence for every import of p that the table forbids.
func faults(rows []rule, p listed) []string {
	rel, _ := inModule(p.ImportPath)
	row, ok := find(rows, rel)
	if !ok {
		return []string{fmt.Sprintf("%s is not in the table of packages: give it a row that says what it may import", p.ImportPath)}
	}
	var found []string
	for _, imported := range imports(p) {
		if !allowed(rows, row, imported) {
			found = append(found, fmt.Sprintf("%s must not import %s", p.ImportPath, imported))
		}
	}
	return found
}

// imports returns everything a package and its tests import, sorted.
func imports(p listed) []string {
	all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	slices.Sort(all)
	return slices.Compact(all)
}

// allowed reports whether the packages of a row may import path.
func allowed(rows []rule, row rule, path string) bool {
	if path == "go.starlark.net" || strings.HasPrefix(path, "go.starlark.net/") {
		return row.starlark
	}
	rel, ok := inModule(path)
	if !ok {
		return true
	}
	target, ok := find(rows, rel)
	return ok && (target.path == row.path || slices.Contains(row.imports, target.path))
}

// packages lists the packages of the module under the given build tags.
func packages(t *testing.T, tags string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json", "-tags", tags, "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	rows := table()
	for _, tags := range []string{"", "libvirt_dlopen"} {
		for _, p := range packages(t, tags) {
			for _, fault := range faults(rows, p) {
				t.Errorf("tags %q: %s", tags, fault)
			}
		}
	}
}

func TestImportTableForbids(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"b9.build/b9/engine/disk", "b9.build/b9/engine/store", false},
		{"b9.build/b9/engine/disk/qcow2", "b9.build/b9/engine/disk", true},
		{"b9.build/b9/engine/disk", "b9.build/b9/engine/near", true},
		{"b9.build/b9/engine/disk/qcow2", "b9.build/b9/engine/internal/sparse", true},
		{"b9.build/b9/engine/size", "b9.build/b9/engine/near", false},
		{"b9.build/b9/engine/internal/sparse", "b9.build/b9/engine/internal/digest", false},
		{"b9.build/b9/engine/internal/flock", "b9.build/b9/engine/store", false},
		{"b9.build/b9/engine", "b9.build/b9/engine/tool", true},
		{"b9.build/b9/engine/store", "b9.build/b9/engine", false},
		{"b9.build/b9/engine", "b9.build/b9/engine/container", true},
		{"b9.build/b9/engine", "b9.build/b9/engine/container/backends", false},
		{"b9.build/b9/builtins", "b9.build/b9/engine/container/embedded", false},
		{"b9.build/b9/engine/container", "b9.build/b9/engine/container/libvirt", false},
		{"b9.build/b9/engine/container/libvirt", "b9.build/b9/engine/container/embedded", true},
		{"b9.build/b9/engine/container/embedded", "b9.build/b9/engine/container/libvirt", false},
		{"b9.build/b9/engine", "b9.build/b9/engine/disk", false},
		{"b9.build/b9/engine", "go.starlark.net/starlark", false},
		{"b9.build/b9/engine", "golang.org/x/sys/unix", true},
		{"b9.build/b9/builtins", "go.starlark.net/starlark", true},
		{"b9.build/b9/builtins", "b9.build/b9/engine/fsys", true},
		{"b9.build/b9/builtins", "b9.build/b9/cmd/b9", false},
		{"b9.build/b9/stdlib", "b9.build/b9/engine", false},
		{"b9.build/b9/cmd/b9", "b9.build/b9/builtins", true},
		{"b9.build/b9/cmd/b9", "b9.build/b9/cmd/b9/internal/build", true},
		{"b9.build/b9/cmd/b9/internal/files", "b9.build/b9/cmd/b9/internal/build", true},
		{"b9.build/b9/cmd/b9/internal/image", "b9.build/b9/cmd/b9/internal/build", false},
		{"b9.build/b9/cmd/b9/internal/display", "b9.build/b9/cmd/b9/internal/session", false},
		{"b9.build/b9/cmd/b9/internal/session", "b9.build/b9/cmd/b9/internal/command", false},
		{"b9.build/b9/cmd/b9/internal/build", "go.starlark.net/starlark", false},
		{"b9.build/b9/engine/config", "b9.build/b9/engine/content", false},
		{"b9.build/b9/engine/config", "b9.build/b9/engine/internal/position", true},
		{"b9.build/b9/engine/internal/position", "b9.build/b9/engine/config", false},
		{"b9.build/b9/engine/repo", "b9.build/b9/engine/ssh", true},
		{"b9.build/b9/engine/ssh", "b9.build/b9/engine/repo", false},
		{"b9.build/b9/engine/ssh", "b9.build/b9/engine/internal/sshdtest", true},
		{"b9.build/b9/engine/internal/sshdtest", "b9.build/b9/engine/ssh", false},
		{"b9.build/b9/other", "fmt", false},
		{"b9.build/b9", "b9.build/b9/builtins", true},
	} {
		got := len(faults(table(), listed{ImportPath: c.from, Imports: []string{c.to}})) == 0
		if got != c.want {
			t.Errorf("%s importing %s: allowed is %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// TestStepsLinkNoContainers keeps what reads and runs steps, which may be code in
// a container or a guest, free of the libraries that make containers.
func TestStepsLinkNoContainers(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "libvirt_dlopen", "./builtins", "./engine").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{"github.com/opencontainers/", "libvirt.org/go/libvirt\n"} {
		if bytes.Contains(out, []byte(library)) {
			t.Errorf("builtins or engine link %s...", library)
		}
	}
}

// TestStdlibOnlyEmbeds keeps the rule libraries free of Go code.
func TestStdlibOnlyEmbeds(t *testing.T) {
	for _, p := range packages(t, "") {
		if rel, _ := inModule(p.ImportPath); !within(rel, "stdlib") {
			continue
		}
		if !slices.Equal(p.GoFiles, []string{"embed.go"}) || len(p.CgoFiles) > 0 {
			t.Errorf("%s has Go files %v beside embed.go", p.ImportPath, append(p.GoFiles, p.CgoFiles...))
		}
		if !slices.Equal(p.Imports, []string{"embed"}) {
			t.Errorf("%s imports %v: its one Go file only embeds", p.ImportPath, p.Imports)
		}
		for _, f := range p.EmbedFiles {
			if filepath.Ext(f) != ".star" {
				t.Errorf("%s embeds %s: only .star files belong there", p.ImportPath, f)
			}
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "b9-out") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && filepath.Ext(path) == ".go" {
			return checkLength(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkLength reports a file of more than maxLines lines.
func checkLength(t *testing.T, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		lines++
	}
	if lines > maxLines {
		t.Errorf("%s has %d lines, more than %d: split it by concept", path, lines, maxLines)
	}
	return s.Err()
}
