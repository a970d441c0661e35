package builtins

import (
	"fmt"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// placements says where the results of a pattern go, as "OUTPUT>PATH", or what is wrong.
func placements(t *testing.T, build, pattern string) string {
	t.Helper()
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "b.txt": "", "p/" + lang.BuildFile: `
base = image(size = "8M")
def step(name = "x", **more):
    return lxc_exec(name = name, images = {"/": base}, script = ["true"], **more)
` + build})
	w, err := openTest(t.Context(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{pattern})
	if err != nil {
		_, msg, _ := strings.Cut(err.Error(), "(): ")
		return "error: " + msg
	}
	list, err := g.Placements()
	if err != nil {
		return "error: " + err.Error()
	}
	var all []string
	for _, p := range list {
		all = append(all, p.Ref.Output+">"+p.Path)
	}
	return strings.Join(all, " ")
}

func TestWhereResultsGo(t *testing.T) {
	const seed = `cloud_init(name = "x", user_data = {"a": 1}, formats = %s%s)`
	for _, c := range [][3]string{
		{`step()`, "//p:x", "/>p/x.raw"},
		{`step(shares = {"/out": writable()})`, "//p:x", "/>p/x.raw /out>p/x/out"},
		{`step(shares = {"/out": writable(), "/b": writable()})`, "//p:x", "/>p/x.raw /out>p/x/out /b>p/x/b"},
		{`step(shares = {"/out": writable()}, place = ["/out"])`, "//p:x", "/out>p/x/out"},
		{`step(shares = {"/out": writable()}, place = ["/out"])`, "//p:x[/]", "/>p/x.raw"},
		{`step(shares = {"/out": writable()}, place = [])`, "//p:x", ""},
		{`step(shares = {"/out": writable()}, place = ["/out"], out = "files")`, "//p:x", "/out>p/files"},
		{`step(shares = {"/out": writable()}, place = ["/out", "/"], out = "files")`, "//p:x", "/>p/x.raw /out>p/files"},
		{`step(out = "vm/0.img")`, "//p:x", "/>p/vm/0.img"},
		{`step(shares = {"/out": writable()}, out = "vm/0.img")`, "//p:x", "/>p/vm/0.img /out>p/x/out"},
		{`step(shares = {"/out": writable()}, out = {"/out": "vm/out"})`, "//p:x", "/>p/x.raw /out>p/vm/out"},
		{`image(name = "x", size = "8M", place = [""], out = "a")`, "//p:x", ">p/a"},
		{`convert(base, "vmdk", name = "x", out = "vm/0.vmdk")`, "//p:x", ">p/vm/0.vmdk"},
		{`convert(base, "vmdk", name = "x", subformat = "monolithicFlat")`, "//p:x", "disk>p/x/disk.vmdk flat>p/x/flat.vmdk"},
		{`overlay(base, name = "x")`, "//p:x", "overlay>p/x/overlay.qcow2 backing>p/x/backing.raw"},
		{`overlay(base, name = "x", backing = "/b")`, "//p:x", "overlay>p/x.qcow2"},
		{fmt.Sprintf(seed, `["iso"]`, ""), "//p:x", "iso>p/x.iso"},
		{fmt.Sprintf(seed, `["vfat", "iso", "dir"]`, ""), "//p:x", "vfat>p/x.img iso>p/x.iso dir>p/x"},
		{fmt.Sprintf(seed, `["vfat", "iso"]`, `, out = {"iso": "0.iso"}`), "//p:x", "vfat>p/x.img iso>p/0.iso"},
		{`group("g", targets = [step(shares = {"/out": writable()}, place = ["/out"]), base, step("y")])`, "//p:g", "/out>p/x/out >p/g/2.raw />p/y.raw"},
		{`s = step(shares = {"/out": writable()}, place = ["/out"], out = "o"); group("g", targets = [s["/"], s])`, "//p:g", "/>p/x.raw /out>p/o"},
		{`a = step("a"); group("g", targets = [a]); group("h", targets = [":g", a])`, "//p:all", "/>p/a.raw"},
		{``, "//:b.txt", ">b.txt"},
	} {
		if got := placements(t, c[0], c[1]); got != c[2] {
			t.Errorf("%s of %s:\n got %s\nwant %s", c[1], c[0], got, c[2])
		}
	}
}

func TestMistakesAboutWhereResultsGo(t *testing.T) {
	for _, c := range [][2]string{
		{`step(place = ["/oot"])`, `place: //p:x has no output "/oot" (have /)`},
		{`step(shares = {"/out": writable()}, place = ["/oot"])`, `place: //p:x has no output "/oot" (have /, /out): did you mean "/out"?`},
		{`step(place = ["/", "/"])`, `place: "/" is given twice`},
		{`step(out = "../x")`, `out: "../x" is no path beneath the package's directory of results, such as vm/0.raw`},
		{`step(out = "/x")`, `out: "/x" is no path beneath the package's directory of results, such as vm/0.raw`},
		{`step(out = "a//b")`, `out: "a//b" is no path beneath the package's directory of results, such as vm/0.raw`},
		{`step(out = "")`, `out: "" is no path beneath the package's directory of results, such as vm/0.raw`},
		{`step(out = ".placed")`, `out: ".placed" begins with a dot, as what b9 keeps beside results does`},
		{`step(out = "a\nb")`, `out: "a\nb" has a control character`},
		{`step(place = [], out = "x")`, `out: nothing is placed, as place=[] says`},
		{`step(shares = {"/out": writable()}, place = ["/out"], out = {"/": "x"})`, `out: "/" is not placed: add it to place=`},
		{`step(out = {"/oot": "x"}, shares = {"/out": writable()})`, `out: //p:x has no output "/oot" (have /, /out): did you mean "/out"?`},
		{`overlay(base, name = "x", out = "y")`, `out: the step has the outputs overlay, backing: say for which, as in out={"overlay": "PATH"}`},
		{`x = lxc_exec(images = {"/": base}, script = ["true"], place = []); step()`, `place and out are for targets: give it a name`},
		{`group("x", targets = [base], out = "y")`, `a group has no results of its own: place and out are for the steps in it`},
		{`step(out = "y.raw"); step("y")`, `//p:x[/] and //p:y[/] would both be placed as p/y.raw: give one of them another out=`},
		{`step(out = "y/z"); file(name = "y", content = "")`, `//p:x[/] would be placed as p/y/z, within //p:y: give one of them another out=`},
	} {
		if got := placements(t, c[0], "//p:all"); !strings.HasPrefix(got, "error: "+c[1]) {
			t.Errorf("%s:\n got %s\nwant error: %s", c[0], got, c[1])
		}
	}
}
