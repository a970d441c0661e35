//go:build !cgo

package embedded

import (
	"errors"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/helper"
)

var errNoCgo = errors.New("this program was built without cgo, which containers need: build it again with CGO_ENABLED=1 and a C compiler (apt-get install gcc libc6-dev)")

// Open returns a backend that says why it can't be used.
func Open(container.Config) container.Backend {
	return helper.Absent{Backend: container.Embedded, Why: errNoCgo}
}
