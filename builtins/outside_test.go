package builtins

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
)

// outside is a workspace beside a directory of the machine that it has links to.
func outside(t *testing.T, build string) (c *checkout, host string) {
	t.Helper()
	host = t.TempDir()
	builtinstest.WriteWorkspace(t, host, map[string]string{"secret": "of the host", "dir/f": "deep", "images/base.txt": "base"})
	check(t, os.Chmod(filepath.Join(host, "secret"), 0o700))
	b := newBuilder(t, map[string]string{"B9BUILD.star": build, "src/a": "a", "inside.txt": "in"})
	for link, to := range map[string]string{
		"secret": filepath.Join(host, "secret"), "dir": filepath.Join(host, "dir"), "chain": "secret", "up": "../" + filepath.Base(b.root) + "/inside.txt",
		"src/out": filepath.Join(host, "secret"), "src/outdir": filepath.Join(host, "dir"), "src/in": "a", "src/nowhere": "/nonexistent/x", "loop": "loop",
	} {
		check(t, os.Symlink(to, filepath.Join(b.root, link)))
	}
	return &checkout{root: b.root, st: b.st}, host
}

// TestLinksOutOfTheWorkspaceAreRefused gives such links wherever a source may stand.
func TestLinksOutOfTheWorkspaceAreRefused(t *testing.T) {
	for name, call := range map[string]string{
		"a file":               `file(name = "t", src = "secret")`,
		"a chain":              `file(name = "t", src = "chain")`,
		"below a directory":    `file(name = "t", src = "dir/f")`,
		"a label":              `file(name = "t", src = "//:secret")`,
		"a link in a source":   `file(name = "t", src = "src/out")`,
		"a directory":          `tree(name = "t", files = {"d": "dir"})`,
		"a directory below":    `tree(name = "t", files = {"d": "src/outdir"})`,
		"a list":               `tree(name = "t", srcs = glob(["**"], exclude = ["*.star", "b9.toml"]))`,
		"a template":           `template(name = "t", src = "secret")`,
		"a variable":           `template(name = "t", content = "${x}", vars = {"x": file(src = "//:secret")})`,
		"a document":           `merge_yaml(name = "t", inputs = ["secret"])`,
		"the content":          `image(name = "t", content = "dir")`,
		"an image":             `convert("secret", name = "t", format = "qcow2")`,
		"a script":             `lxc_exec(name = "t", images = {"/": "inside.txt"}, script = "secret")`,
		"a share":              `lxc_exec(name = "t", images = {"/": "inside.txt"}, script = ["true"], shares = {"/s": "dir"})`,
		"a group":              `group("t", targets = ["//:secret"])`,
		"another path follows": `tree(name = "t", files = {"x": "secret", "y": "inside.txt"}, follow = ["y"])`,
	} {
		c, host := outside(t, call)
		_, err := c.try(t, nil, "//:t")
		if err == nil || !strings.Contains(err.Error(), "leads by a symbolic link to "+host) || !strings.Contains(err.Error(), "[sources]") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, host := outside(t, "")
	if _, err := c.try(t, nil, "//:secret"); err == nil || !strings.Contains(err.Error(), "leads by a symbolic link to "+host) {
		t.Errorf("on the command line: %v", err)
	}
}

func TestLinksInTheWorkspaceAreRead(t *testing.T) {
	c, _ := outside(t, `template(name = "t", content = "${x} ${y}", vars = {"x": file(src = "//:up"), "y": file(src = "//:src/in")})`)
	made, err := c.try(t, nil, "//:t")
	check(t, err)
	if data, err := made["//:t"].ReadAll(100); err != nil || string(data) != "in a" {
		t.Errorf("%q, %v", data, err)
	}
	real := c.root // a workspace that is itself reached by a link
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(real, link))
	c.root = link
	if _, err := c.try(t, nil, "//:t"); err != nil {
		t.Error(err)
	}
	c, _ = outside(t, `file(name = "t", src = "loop")`)
	if _, err := c.try(t, nil, "//:t"); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
		t.Error(err)
	}
}

func treeText(t *testing.T, c *checkout) (string, error) {
	t.Helper()
	made, err := c.try(t, nil, "//:t")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(t.TempDir(), "t")
	check(t, made["//:t"].Fork(t.Context(), dir))
	return listing(dir)
}

func TestATreeKeepsLinksAsTextAndFollowsThoseItIsToldTo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	c, host := outside(t, `tree(name = "t", files = {"d": "src"})`)
	text, err := treeText(t, c)
	check(t, err)
	wantLines(t, text, `d/out 120777 0:0 0 1 "" "`+host+`/secret"`, `d/outdir 120777 0:0 0 1 "" "`+host+`/dir"`, `d/in 120777 0:0 0 1 "" "a"`)

	c, host = outside(t, `tree(name = "t", files = {"d": "src", "s": "secret"}, follow = ["d/out", "/d/outdir", "s"])`)
	first := c.build(t, "//:t")["//:t"]
	text, err = treeText(t, c)
	check(t, err)
	wantLines(t, text, `d/out 100755 0:0 0 1 "" "" `, `d/outdir 40755 0:0 0 0 "" "" `, `d/outdir/f 100644 0:0 0 1 "" "" `, `s 100755 0:0 0 1 "" "" `, `d/in 120777 0:0 0 1 "" "a"`)
	check(t, os.WriteFile(filepath.Join(host, "dir/f"), []byte("edited"), 0o644)) // the target is in the key
	if second := c.build(t, "//:t")["//:t"]; second.Key() == first.Key() || second.Digest() == first.Digest() {
		t.Error("an edit of what is followed builds nothing")
	}
	for follow, want := range map[string]string{
		`"d/a"`: "is no symbolic link of a source directory", `"x"`: "is no symbolic link of a source directory", `"d/nowhere"`: "no such file",
	} {
		c, _ := outside(t, `tree(name = "t", files = {"d": "src"}, follow = [`+follow+`])`)
		if _, err := c.try(t, nil, "//:t"); err == nil || !strings.Contains(err.Error(), "follow: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("follow %s: %v", follow, err)
		}
	}
}

func TestSourcesOutsideAreNamed(t *testing.T) {
	c, host := outside(t, `
template(name = "t", content = "${x} ${y}", vars = {"x": file(src = "@images//base.txt"), "y": file(src = "@host//dir/f")})
tree(name = "d", files = {"images": "@images//", "f": "@host//dir/f"})
file(name = "linked", src = "dir/f")
group("g", targets = ["@images//base.txt"])
`)
	c.sources = map[string]string{"images": filepath.Join(host, "images"), "host": host}
	made := c.build(t, "//:t")["//:t"]
	if data, err := made.ReadAll(100); err != nil || string(data) != "base deep" {
		t.Errorf("%q, %v", data, err)
	}
	if os.Geteuid() == 0 {
		c.build(t, "//:d")
	}
	c.build(t, "//:linked") // what has a name may be reached by a link, too
	c.build(t, "//:g")
	check(t, os.WriteFile(filepath.Join(host, "images/base.txt"), []byte("new"), 0o644))
	if data, err := c.build(t, "//:t")["//:t"].ReadAll(100); err != nil || string(data) != "new deep" {
		t.Errorf("after an edit: %q, %v", data, err)
	}
	for call, want := range map[string]string{
		`file(name = "t", src = "@image//base.txt")`:        `[sources] of b9.toml has no "image" (have host, images): did you mean "images"?`,
		`file(name = "t", src = "@images//../secret")`:      `path "../secret" must not contain ".."`,
		`file(name = "t", src = "@images//nothing")`:        "no such file",
		`file(name = "t", src = "@images")`:                 `a label with @ is "@NAME//path"`,
		`file(name = "t", src = "@b9//debian.star")`:        "only load() takes the label of a library",
		`file(name = "t", src = "@images//link")`:           "leads by a symbolic link to " + host + "/secret",
		`load("@images//x.star", "y")`:                      "cannot load",
		`tree(name = "t", srcs = ["@images//base.txt"])`:    "put it into files",
		`file(name = "t", src = "@images//base.txt[/out]")`: "must not contain",
	} {
		c, host2 := outside(t, call)
		want = strings.ReplaceAll(want, host, host2)
		c.sources = map[string]string{"images": filepath.Join(host2, "images"), "host": filepath.Join(host2, "dir")}
		check(t, os.Symlink("../secret", filepath.Join(host2, "images", "link")))
		if _, err := c.try(t, nil, "//:t"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", call, err)
		}
	}
}
