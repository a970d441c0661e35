package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// A guide in docs/ is run from top to bottom in a workspace of its own. Of its fenced
// blocks a build file or other file, whose first line is a comment with its path, is
// written there, and a build file is evaluated; "sh" runs, "sh long" does so in the
// long tests, and everything else is for other programs, or shows what is seen. A comment
// of the document that begins with "prepare" is a script that runs, too.
var guideBlock = regexp.MustCompile("(?ms)^```([a-z]+)( long)?\n(.*?)^```$|^<!-- prepare\n(.*?)^-->$")

// guideFile is the first line of a file in a guide.
var guideFile = regexp.MustCompile(`\A# ([A-Za-z0-9_./-]+\.(?:star|toml))\n`)

// TestGuides does what the guides tell.
func TestGuides(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	guides, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(guides) < 10 {
		t.Fatalf("guides: %v, %v", guides, err)
	}
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		blocks := guideBlock.FindAllStringSubmatch(string(text), -1)
		if !runnable(blocks) {
			continue
		}
		t.Run(filepath.Base(guide), func(t *testing.T) {
			g := newGuide(t, root)
			for _, b := range blocks {
				g.do(b[1], b[2] != "", b[3], b[4])
			}
		})
	}
}

// runnable reports whether a guide has anything to do.
func runnable(blocks [][]string) bool {
	for _, b := range blocks {
		if b[1] == "sh" || b[4] != "" || guideFile.MatchString(b[3]) {
			return true
		}
	}
	return false
}

// guide is a guide that is followed.
type guide struct {
	*testing.T
	dir string
	env []string
}

func newGuide(t *testing.T, root string) *guide {
	home := t.TempDir()
	dir := filepath.Join(home, "images")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b9.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home+"/.cache", "XDG_CONFIG_HOME="+home+"/.config", "XDG_STATE_HOME="+home+"/.state", "SOURCE="+root, "NO_COLOR=1", "SOURCE_DATE_EPOCH=")
	return &guide{t, dir, env}
}

// do follows one block.
func (g *guide) do(language string, long bool, text, prepare string) {
	g.Helper()
	name := guideFile.FindStringSubmatch(text)
	switch {
	case prepare != "":
		g.run(prepare)
	case name != nil:
		path := filepath.Join(g.dir, name[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			g.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			g.Fatal(err)
		}
		if filepath.Base(name[1]) == "B9BUILD.star" {
			g.run("b9 query //" + strings.TrimPrefix(filepath.Dir(name[1]), ".") + ":all > /dev/null")
		}
	case language == "yaml":
		if err := yaml.Unmarshal([]byte(text), new(any)); err != nil {
			g.Errorf("%v in\n%s", err, text)
		}
	case language == "sh" && (!long || os.Getenv(longTests) != ""):
		g.run(text)
	}
}

// run runs a script in the guide's workspace; a command that fails is the test's failure.
func (g *guide) run(script string) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ex", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = g.dir, g.env
	if out, err := cmd.CombinedOutput(); err != nil {
		g.Fatalf("%v\n%s", err, out)
	} else if strings.Contains(string(out), "warning:") {
		g.Errorf("it warns:\n%s", out)
	}
}
