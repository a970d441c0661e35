//go:build cgo

package embedded

import (
	"context"
	"strings"
	"testing"

	"b9.build/b9/engine/container"
)

// TestWithoutMain runs a container in a program that is not prepared to be run
// again, as the tests of this package are: it would begin its own work, here
// the tests, once more.
func TestWithoutMain(t *testing.T) {
	dir := t.TempDir()
	spec := container.Spec{ID: "b9-without-main", Argv: []string{"true"}, Mounts: []container.Mount{{Source: dir, Target: "/", Kind: container.Dir}}}
	res, err := Open(container.Config{RunDir: dir}).Run(context.Background(), spec, container.IO{})
	if err == nil || !strings.Contains(err.Error(), "call backends.Main() of b9.build/b9/engine/container/backends first in main") {
		t.Errorf("got %+v, %v", res, err)
	}
}
