package main

import (
	"html"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// makeSite makes the site of the documentation, as `make docs` does.
func makeSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b9, err := exec.LookPath("b9") // this test
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "site")
	for _, args := range [][]string{
		{"go", "build", "-buildvcs=false", "-o", program, "./internal/site"},
		{program, b9, "../..", filepath.Join(dir, "html")},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return filepath.Join(dir, "html")
}

// linked finds what a page links to or loads, and names finds its anchors.
var linked, names = regexp.MustCompile(`(?:href|src)="([^"]*)"`), regexp.MustCompile(`id="([^"]*)"`)

// TestSite makes the site, follows its links, and uses it in a browser.
func TestSite(t *testing.T) {
	dir := makeSite(t)
	t.Run("links", func(t *testing.T) { checkLinks(t, dir) })
	t.Run("browser", func(t *testing.T) {
		browser, err := exec.LookPath("chromium")
		if err != nil {
			t.Skip("no chromium (Debian package chromium)")
		}
		judged(t, browser, dir, "site.html")
	})
}

// checkLinks follows every link of the site, each to a page that is there and to an anchor
// that this page has, and finds what would be loaded from the network.
func checkLinks(t *testing.T, dir string) {
	pages, anchors := map[string]string{}, map[string]bool{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		anchors[name] = true
		if path.Ext(name) == ".html" {
			pages[name] = string(data)
			for _, m := range names.FindAllStringSubmatch(string(data), -1) {
				anchors[name+"#"+html.UnescapeString(m[1])] = true
			}
		}
		return err
	})
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	followed := 0
	for name, text := range pages {
		for _, m := range linked.FindAllStringSubmatch(text, -1) {
			to, err := url.Parse(html.UnescapeString(m[1]))
			switch {
			case err != nil:
				t.Errorf("%s: %s: %v", name, m[1], err)
			case to.Scheme != "" && strings.HasPrefix(m[0], "href"):
				continue
			case to.Scheme != "" || to.Host != "":
				t.Errorf("%s: loads %s from elsewhere", name, m[1])
			}
			if err == nil && !anchors[target(name, to)] {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
			}
			followed++
		}
	}
	t.Logf("%d links of %d pages", followed, len(pages))
	for name, want := range map[string]string{"builtins.html": "lxc_exec", "commands.html": "b9 repo add", "settings.html": "store.max_size", "output.html": "build/1"} {
		if !strings.Contains(pages[name], want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
}

// target is the file, and the anchor, that a link of a page leads to.
func target(from string, to *url.URL) string {
	name := from
	if to.Path != "" {
		name = path.Join(path.Dir(from), to.Path)
	}
	if to.Fragment != "" {
		name += "#" + to.Fragment
	}
	return name
}
