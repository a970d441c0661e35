package lang

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

// RootFile marks the root of a workspace.
const RootFile = "b9.toml"

// Config says which workspace to open and how to evaluate its build files.
type Config struct {
	Root    string            // the workspace root; "" searches for b9.toml from Dir upwards
	Dir     string            // where relative targets start; "" is the working directory
	Options map[string]string // the -D values, which option() reads; one that no file declares is an error
	Out     string            // the directory of results, slash-separated below the root; no source. "" is outputDir
	Stderr  io.Writer         // where print() writes; nil discards
	Limits  Limits            // of evaluation

	// Sources are directories outside of the workspace, absolute, by the names
	// that labels such as @images//disk.qcow2 have for them.
	Sources map[string]string

	// Configured are values for options that have none in Options. A
	// configuration is for many packages: one that does not declare an
	// option does without it.
	Configured map[string]string

	// Tags choose among the targets that patterns for several stand for: those with one of
	// the words, if there are any without a dash in front, and with none of the words that
	// have one. Manual includes targets with the tag "manual", which such patterns leave out.
	Tags   []string
	Manual bool

	// Arguments keeps those of every call, for [Target.Arguments].
	Arguments bool

	// Operations are what build files find defined beside the language itself.
	Operations []Operation

	// Prefixes turn patterns that begin with a name and a colon, such as
	// "shared:", into the step that what follows stands for. name is what
	// the step's result is called.
	Prefixes map[string]func(rest string) (name string, step Step, err error)
}

// Limits bounds the evaluation of build files. Zero values mean the defaults.
type Limits struct {
	Steps  uint64        // interpreter steps of one file; default 500 million
	Memory uint64        // bytes that evaluation may add to the heap and stacks; default 1 GiB
	Time   time.Duration // of one round of loading; default one minute
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Steps:  cmp.Or(l.Steps, 500_000_000),
		Memory: cmp.Or(l.Memory, 1<<30),
		Time:   cmp.Or(l.Time, time.Minute),
	}
}

// Workspace is a directory tree with build files. Its methods may be called
// from several goroutines.
type Workspace struct {
	cfg  Config
	root string // absolute
	dir  string // slash-separated, below root; "" is the root
	env  starlark.StringDict

	mu      sync.Mutex // guards what follows, and blockedOn of every module
	modules map[string]*module
	sources map[string]*declaration
	options map[string]*declaredOption
	listed  []engine.Stamp // of the directories that were searched for build files
	stderr  sync.Mutex     // also guards what modules printed

	declared map[string]string // what files that are not evaluated say of options, by name

	resolving sync.Mutex        // held by Resolve; guards what follows, and link of every declaration
	linkErrs  []*Error          // mistakes found while linking
	partial   bool              // patterns for several targets left some out
	broken    error             // evaluation had to be abandoned
	real      map[string]string // directories without the symbolic links on the way to them
	memory    *memoryWatch
}

// Open finds the workspace. Nothing is evaluated yet. Where no b9.toml is
// found the error says where it was looked for; an operation of a form that
// its comment forbids is an error, too.
func Open(ctx context.Context, cfg Config) (*Workspace, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	root, err := findRoot(cfg.Root, dir)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		rel = ""
	}
	if err := checkOperations(cfg.Operations); err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.withDefaults()
	w := &Workspace{
		cfg: cfg, root: root, dir: filepath.ToSlash(rel),
		modules: map[string]*module{}, sources: map[string]*declaration{}, options: map[string]*declaredOption{},
		real: map[string]string{},
	}
	w.env = environment(cfg.Operations)
	return w, nil
}

// Root is the absolute path of the workspace root.
func (w *Workspace) Root() string { return w.root }

// FindRoot returns the root of the workspace that dir lies in: the directory with
// b9.toml that is nearest above. None is an error.
func FindRoot(dir string) (string, error) { return findRoot("", dir) }

func findRoot(root, dir string) (string, error) {
	if root != "" {
		root, err := filepath.Abs(root)
		if err != nil {
			return "", fmt.Errorf("workspace: %w", err)
		}
		return root, checkRoot(root)
	}
	for at := dir; ; at = filepath.Dir(at) {
		ok, err := isRoot(at)
		if ok || err != nil {
			return at, err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no workspace: there is no %s in %s or above it: run `b9 init` (or `touch %s`) in the directory that is to be the root", RootFile, dir, RootFile)
		}
	}
}

func checkRoot(root string) error {
	ok, err := isRoot(root)
	if err == nil && !ok {
		err = fmt.Errorf("no workspace: there is no %s in %s: run `b9 init` (or `touch %s`) there", RootFile, root, RootFile)
	}
	return err
}

func isRoot(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, RootFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("workspace: %w", err)
	}
	return true, nil
}
