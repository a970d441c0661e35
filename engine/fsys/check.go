package fsys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/tool"
)

// Check runs the read-only check of the file system that fills the file at
// path: e2fsck -fn, fsck.vfat -n, xfs_repair -n, btrfs check, fsck.erofs
// or fsck.f2fs. nil means that
// nothing was found; else the error holds the tool's findings, which for e2fsck is
// everything that it would repair, whatever its exit status. A type without
// such a tool is an error too.
func Check(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := probeFile(f, 0, 0)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if strings.HasPrefix(info.Type, "ext") {
		if err := ext4.Check(ctx, f, info.Type); err != nil {
			return fmt.Errorf("check %s: %w", path, err)
		}
		return nil
	}
	program := checker(info.Type)
	if program == nil {
		return fmt.Errorf("check %s: there is no checker for %s", path, nameOf(info.Type))
	}
	name, args := program[0], append(program[1:], hosttool.ImagePath)
	_, err = hosttool.Command{Image: f, Most: maxFindings}.Run(ctx, name, args...)
	var exit *tool.Failure
	if errors.As(err, &exit) && exit.Code < 0 {
		return fmt.Errorf("check %s: the %s file system has errors that %s does not come to an end with: %w", path, info.Type, name, err)
	}
	if errors.As(err, &exit) {
		exit.Found = fmt.Sprintf("check %s: the %s file system has errors", path, info.Type)
		return exit
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// maxFindings bounds what a checker prints, in bytes.
const maxFindings = 1 << 20

// checker is the program that checks a type other than ext2, ext3 and ext4, and its
// options.
func checker(kind string) []string {
	return map[string][]string{
		"vfat": {"fsck.vfat", "-n"}, "xfs": {"xfs_repair", "-n", "-f"}, "btrfs": {"btrfs", "check", "--readonly"},
		"erofs": {"fsck.erofs"}, "f2fs": {"fsck.f2fs", "--dry-run"},
	}[kind]
}
