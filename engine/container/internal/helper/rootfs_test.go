package helper

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// TestUnmountErrorsNameTheTarget: of a share as of an image.
func TestUnmountErrorsNameTheTarget(t *testing.T) {
	where := t.TempDir() // nothing is mounted there
	for _, kind := range []container.MountKind{container.Image, container.Dir, container.Tmpfs} {
		err := detach(where, nil, container.Mount{Kind: kind, Target: "/srv/data"})
		if err == nil || !strings.Contains(err.Error(), "unmount /srv/data: ") || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			t.Errorf("kind %v: %v", kind, err)
		}
	}
}
