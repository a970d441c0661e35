package ext4

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/tool"
)

// maxFindings bounds what e2fsck prints, in bytes: 1.47.0 prints for ever about an
// inode table that it would move and may not.
const maxFindings = 1 << 20

// Check returns an error with what e2fsck -fn would repair in the file system in
// f, of which errors say that it is a kind, and nil where that is nothing. Its messages count, not its exit status alone:
// of some damage, such as wrong counts of clusters, it tells and exits with 0.
func Check(ctx context.Context, f *os.File, kind string) error {
	lines, err := hosttool.Command{Image: f, Most: maxFindings}.Lines(ctx, "e2fsck", "-fn", hosttool.ImagePath)
	var exit *tool.Failure
	if errors.As(err, &exit) && exit.Code < 0 {
		return fmt.Errorf("the %s file system has errors that e2fsck does not come to an end with: %w", kind, err)
	}
	found := fmt.Sprintf("the %s file system has errors", kind)
	if errors.As(err, &exit) {
		exit.Found = found
		return exit
	}
	if err != nil {
		return err
	}
	if list := findings(lines); len(list) > 0 {
		return &tool.Failure{Program: "e2fsck", Code: uncorrected, Output: strings.Join(list, "\n"), Found: found}
	}
	return nil
}

// uncorrected is how e2fsck ends that has left errors as they are, and should where it
// ends with 0 nevertheless.
const uncorrected = 4

// findings are the lines of e2fsck's output that tell of what it would repair. It
// asks about each and, with -n, answers no; what it would only make shorter or
// faster is no error.
func findings(lines []string) []string {
	var found []string
	before := ""
	for _, line := range lines {
		question, asked := strings.CutSuffix(line, "? no")
		switch word := question[strings.LastIndexByte(question, ' ')+1:]; {
		case asked && word == "Optimize":
		case asked && word == question: // the matter is in the line before
			found = append(found, before+" "+line)
		case asked, strings.Contains(line, "IGNORED"), strings.HasPrefix(line, "WARNING: "):
			found = append(found, line)
		}
		before = line
	}
	return found
}
