// Package tool finds the programs of the host that b9 calls and asks them for
// their versions. All of b9 finds programs here, so that the version in a
// step's key is that of the program that the step runs. The package imports
// nothing of b9. It neither runs programs for their work nor installs them.
//
//	Find     where a program is; FindIn, where one is that others call
//	Package  which Debian package has it
//	Program  a program and how to ask for its version
//	Failure  one that ended badly; Cause, what it says of why
package tool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// adminDirs lists the directories for administration, which the PATH of an
// ordinary user or of a scheduled job may lack, in the order of a usual PATH.
func adminDirs() []string { return []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} }

// Find returns the absolute path of the executable file of that name. It
// searches the directories of PATH and then /usr/local/sbin, /usr/sbin and
// /sbin. Like [exec.LookPath] it refuses what only a relative directory of PATH
// has. A name with a slash is a path and is not searched for. The error of a
// program that is nowhere is the one of [exec.LookPath], with
// [exec.ErrNotFound].
func Find(name string) (string, error) { return find(name, adminDirs()) }

// FindIn returns the path of the executable file of that name in the first of
// the directories, a list like PATH, that has one, and its path in the last of
// them where none has.
func FindIn(list, name string) string {
	path := ""
	for _, dir := range filepath.SplitList(list) {
		path = filepath.Join(dir, name)
		if _, err := exec.LookPath(path); err == nil {
			break
		}
	}
	return path
}

func find(name string, dirs []string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if strings.Contains(name, "/") {
		return "", err
	}
	for _, dir := range dirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Package returns the Debian package that has a program that b9 calls: the one
// of the program's name, unless it is known to be another.
func Package(program string) string {
	return cmp.Or(map[string]string{
		"mke2fs": "e2fsprogs", "e2fsck": "e2fsprogs", "resize2fs": "e2fsprogs", "e2undo": "e2fsprogs",
		"fsck.vfat": "dosfstools", "xfs_repair": "xfsprogs", "mkfs.xfs": "xfsprogs", "btrfs": "btrfs-progs",
		"mkfs.erofs": "erofs-utils", "fsck.erofs": "erofs-utils",
		"mkfs.f2fs": "f2fs-tools", "sload.f2fs": "f2fs-tools", "fsck.f2fs": "f2fs-tools", "resize.f2fs": "f2fs-tools",
		"apt-get": "apt", "apt-config": "apt", "apt-helper": "apt",
		"qemu-system-x86_64": "qemu-system-x86", "sbsign": "sbsigntool",
	}[program], program)
}

// Program is a program of the host whose version decides what it writes, so
// that the version belongs in the key of a step that calls it. Running it with
// VersionArgs prints a text, on standard output or error, that changes when the
// program's behaviour may, and does nothing else.
//
// Name is what [Find] is called with: a path names one that is not searched for,
// because another program calls it from there.
type Program struct {
	Name        string
	VersionArgs []string
}

// Base is the program's name without the path to it.
func (p Program) Base() string { return filepath.Base(p.Name) }

// versionLimit is how long a program may take to tell its version.
const versionLimit = 30 * time.Second

// Version runs the program at path, which [Find] returned, with VersionArgs and
// returns what it prints without the white space around it. The exit status
// does not matter: some programs exit with 1. An error says that the program
// could not be started or did not end within half a minute, or is that of ctx.
func (p Program) Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, versionLimit, fmt.Errorf("version of %s: %s did not end within %v", p.Base(), path, versionLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, p.VersionArgs...)
	cmd.WaitDelay = time.Second // for what it may have left behind, with its output
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("version of %s: %w", p.Base(), err)
	}
	return strings.TrimSpace(string(text)), nil
}
