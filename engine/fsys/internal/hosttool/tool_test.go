package hosttool

import (
	"errors"
	"testing"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/tool"
)

func TestMissingTool(t *testing.T) {
	var missing *MissingError
	if _, err := (Command{}).Run(t.Context(), "no-such-mke2fs"); !errors.As(err, &missing) {
		t.Fatalf("a tool that does not exist: %v", err)
	}
	fsystest.WantError(t, &MissingError{Name: "fsck.vfat", Package: tool.Package("fsck.vfat")}, "fsck.vfat is not installed: install the Debian package dosfstools")
}
