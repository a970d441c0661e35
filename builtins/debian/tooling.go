package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/tool"
)

// tooling is what mmdebstrap is told in files, and how it is run.
type tooling struct {
	*bootstrap
	sources []aptSource
	dir     string // where the files are
	root    string // the root file system
	log     io.Writer

	access   *Access             // to the sources
	emulator *container.Emulator // of the programs in the root, nil for the kernel
}

func (t *tooling) path(name string) string { return filepath.Join(t.dir, name) }

// prepare writes the files.
func (t *tooling) prepare(ctx context.Context) error {
	access, err := writeLogins(ctx, t.path(loginsFile), t.Apt, t.sources)
	if err != nil {
		return err
	}
	t.access = access
	options, err := machineAcquire(ctx, t.path(loginsFile))
	if err != nil {
		return err
	}
	sources, err := readable(fetchable(publicSources(t.sources)))
	if err != nil {
		return err
	}
	return errors.Join(
		os.Mkdir(t.path("tmp"), 0o1777),
		os.WriteFile(t.path("apt.conf"), options, 0o600),
		os.WriteFile(t.path("b9.sources"), []byte(renderSources(sources)), 0o600),
	)
}

// forgetAccess removes the files with passwords of mirrors and proxies.
func (t *tooling) forgetAccess() error {
	return errors.Join(os.RemoveAll(t.path(loginsFile)), os.RemoveAll(t.path("apt.conf")))
}

// mmdebstrap runs the program. What it, apt or dpkg say of an error is the error.
func (t *tooling) mmdebstrap(ctx context.Context, env []string, options ...string) error {
	program, err := tool.Find("mmdebstrap") // the one whose version is in the key
	if err != nil {
		return fmt.Errorf("mmdebstrap is not there: install the Debian package %s", tool.Package("mmdebstrap"))
	}
	argv := append([]string{
		program, "--format=directory", "--verbose", "--variant=" + t.Variant, "--architectures=" + t.Arch,
		// Whether the architecture can run here has been checked, and the
		// sources say what they are signed with; packages and lists are kept
		// for finish, which knows what to do with them.
		"--skip=check/qemu", "--skip=check/signed-by", "--skip=cleanup/apt", "--aptopt=" + t.path("apt.conf"),
	}, options...)
	for _, p := range t.Packages {
		argv = append(argv, "--include="+p)
	}
	watch := &aptErrors{to: t.log}
	masker := secret.NewMasker(t.access.masked(os.Environ()), watch)
	env = hostEnv(append(env, "DEBIAN_FRONTEND=noninteractive", "TMPDIR="+t.path("tmp"))...)
	err = runContained(ctx, t.emulator, env, masker, append(argv, t.Suite, t.root, t.path("b9.sources"))...)
	if ferr := masker.Flush(); err == nil {
		err = ferr
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return t.explain(watch, err)
	}
	return err
}

// attempts is how often something is tried that fails for what may pass. apt itself
// tries a file again, [retries] times, only after errors of the network.
const attempts = 4

// persist calls run until it succeeds or fails for good, with a longer pause
// before each attempt, and tidy between two of them.
func persist(ctx context.Context, log io.Writer, run, tidy func() error) error {
	for try := 1; ; try++ {
		err := run()
		var passing *passingError
		if !errors.As(err, &passing) || ctx.Err() != nil {
			return err
		}
		if try == attempts {
			return fmt.Errorf("%w (tried %d times)", err, try)
		}
		if err := tidy(); err != nil {
			return err
		}
		pause := time.Second << (try - 1)
		pause = pause/2 + rand.N(pause) // many machines do not come back at once
		fmt.Fprintf(log, "b9: %v: trying again in %s\n", err, pause.Round(100*time.Millisecond))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// mergedDirs is the directories of the root that are links into /usr on
// systems of the architecture: lib64 where the dynamic linker is there.
func mergedDirs(arch string) string {
	switch arch {
	case "amd64", "ppc64el", "mips64el", "loong64":
		return "bin sbin lib lib64"
	}
	return "bin sbin lib"
}

// merged is the directories that are merged into /usr if the suite says that
// its systems are, "" for none.
func (t *tooling) merged() string {
	if slices.Contains(t.Packages, "usrmerge") {
		return ""
	}
	return mergedDirs(t.Arch)
}
