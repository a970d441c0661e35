package b9_test

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mod "golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// moduleVersion is the version under which the test's proxy has the working tree.
const moduleVersion = "v0.0.0-test.1"

// embedder is a program of another module, which builds a target.
const embedder = `package main

import (
	"context"
	"fmt"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

func main() {
	ctx := context.Background()
	ws := must(lang.Open(ctx, lang.Config{Dir: ".", Operations: builtins.Operations(builtins.Settings{})}))
	graph := must(ws.Resolve(ctx, []string{"//:motd"}))
	st := must(store.Open(".store", store.Options{}))
	defer st.Close()
	ref := graph.Targets[0].Refs[0]
	result := must(engine.New(engine.Config{Store: st}).Build(ctx, ref))
	fmt.Println(must(result.Artifact(ref).Size()), "bytes")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
`

// TestModule has another module get b9 from a proxy that is a directory, build
// a program with it, and run that. What b9 imports comes from the module cache,
// and what that has never needed from where the machine gets modules; it is held
// to the checksums in b9's go.sum. Only b9 itself, which no checksum database
// knows, is named in GONOSUMDB.
func TestModule(t *testing.T) {
	if os.Getenv("B9_LONG_TESTS") == "" {
		t.Skip("builds b9 as another module's library: set B9_LONG_TESTS=1, as `make test` does")
	}
	proxy, dir := t.TempDir(), t.TempDir()
	publish(t, proxy)
	downloads := filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")
	env := append(os.Environ(),
		"GOPROXY=file://"+proxy+",file://"+downloads+","+goEnv(t, "GOPROXY"),
		"GONOSUMDB=b9.build", "GONOPROXY=none",
		"GOMODCACHE="+t.TempDir(), // nothing of this version is there yet, nor stays
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
		"GOTOOLCHAIN=local",
		"GOWORK=off",
	)
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run("go", "mod", "init", "embedder.example")
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.sum": string(sums), "main.go": embedder,
		"b9.toml": "", "B9BUILD.star": `file(name = "motd", content = "hello\n")`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("go", "get", module+"@"+moduleVersion)
	run("go", "build", "-o", "embedder", ".")
	if out := run(filepath.Join(dir, "embedder")); out != "6 bytes\n" {
		t.Errorf("the program printed %q, want %q", out, "6 bytes\n")
	}
	if list := run("go", "list", "-m", module); list != module+" "+moduleVersion+"\n" {
		t.Errorf("go list -m says %q", list)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// publish puts the working tree into a directory that is a module proxy.
func publish(t *testing.T, proxy string) {
	t.Helper()
	dir := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list":                  moduleVersion + "\n",
		moduleVersion + ".info": fmt.Sprintf(`{"Version": %q}`, moduleVersion),
		moduleVersion + ".mod":  string(gomod),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, moduleVersion+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := modzip.Create(f, mod.Version{Path: module, Version: moduleVersion}, moduleFiles(t)); err != nil {
		t.Fatal(err)
	}
}

// moduleFiles lists the files of the module: the whole tree but what is built
// and what git keeps.
func moduleFiles(t *testing.T) []modzip.File {
	t.Helper()
	var files []modzip.File
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == ".git" || path == "bin" || d.Name() == "b9-out") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && path != ".git" {
			files = append(files, treeFile(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// treeFile is the path of a file below the module's root.
type treeFile string

func (f treeFile) Path() string                 { return filepath.ToSlash(string(f)) }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(string(f)) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(string(f)) }

// TestModuleZip makes the zip that a module proxy has of the working tree: every
// name is one that the go command takes on every system, and nothing is too large.
func TestModuleZip(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir)
	r, err := zip.OpenReader(filepath.Join(dir, filepath.FromSlash(module), "@v", moduleVersion+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"go.mod", "LICENSE", "stdlib/debian.star", "engine/engine.go"} {
		if _, err := r.Open(module + "@" + moduleVersion + "/" + name); err != nil {
			t.Error(err)
		}
	}
}
