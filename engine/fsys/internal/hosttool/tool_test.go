package hosttool

import (
	"testing"

	"b9.build/b9/engine/fsys/internal/fsystest"
)

func TestMissingTool(t *testing.T) {
	_, err := Command{}.Run(t.Context(), "no-such-mke2fs")
	fsystest.WantError(t, err, "no-such-mke2fs is not installed")
	fsystest.WantError(t, missing("fsck.vfat"), "fsck.vfat is not installed: install the Debian package dosfstools")
}
