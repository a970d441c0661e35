package main

import (
	"bytes"
	"context"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// pageFiles is a workspace whose builds have something to show: steps that ran side by
// side and one after the other, one that failed, and texts that a page must not take for
// its own.
var pageFiles = map[string]string{
	"b9.toml": "",
	"B9BUILD.star": `a = file(name = "a", content = "one\n", doc = "</script><script>document.body.remove()</script>")
image(name = "data", size = "8M", fs = "ext4", content = tree(files = {"etc/a": a, "etc/b": "src.txt"}))
disk(name = "disk", partitions = [part(":data")], table = "gpt")
convert(":disk", "qcow2", name = "qcow")
convert(":disk", "vmdk", name = "a_rather_long_name_that_nobody_would_choose_but_that_somebody_will")
group(name = "both", targets = [":qcow", ":a_rather_long_name_that_nobody_would_choose_but_that_somebody_will"])
resize(image(size = "64M"), "64K", name = "fails")
`,
	"src.txt": "b\n",
}

// TestPages uses the pages of the profile and the graph in a browser, 400 and 1600 pixels
// wide: testdata/pages/judge.html says what must be so.
func TestPages(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium (Debian package chromium)")
	}
	s := newSite(t, pageFiles)
	s.b9("build", "-k", "//...")
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"profile.html": {"profile", "--format", "html"},
		"graph.html":   {"graph", "//:both", "//:fails", "--format", "html"},
	} {
		status, out, errs := s.b9(args...)
		if status != 0 || strings.Count(out, "<script>") != 1 {
			t.Fatalf("b9 %q: status %d\n%s", args, status, errs)
		}
		if bytes.Contains([]byte(out), []byte("ZgotmplZ")) {
			t.Errorf("%s: the page refused a value", name)
		}
		// A page tells its judge of its own mistakes, and of what it must not load.
		out = strings.Replace(out, "<script>", "<script>window.failures = []; addEventListener('error', (e) => failures.push(e.message)); addEventListener('securitypolicyviolation', (e) => failures.push(e.violatedDirective));</script><script>", 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	judged(t, browser, dir, "judge.html")
}

// judged has a browser open a page of testdata/pages beside those of a directory: it tells
// what is wrong with them.
func judged(t *testing.T, browser, dir, judge string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "pages", judge))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "judge.html"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--allow-file-access-from-files", "--user-data-dir="+filepath.Join(dir, "user"), "--window-size=1700,1000", "--virtual-time-budget=60000", "--dump-dom", "file://"+filepath.Join(dir, "judge.html"))
	cmd.Env = append(os.Environ(), "HOME="+dir)
	out, err := cmd.Output()
	found := regexp.MustCompile(`(?s)<pre id="result">(.*?)</pre>`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%v: %s", err, out)
	}
	if text := html.UnescapeString(string(found[1])); !strings.HasPrefix(text, "all of ") {
		t.Errorf("%s", text)
	} else {
		t.Log(text)
	}
}
