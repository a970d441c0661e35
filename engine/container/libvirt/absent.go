//go:build !cgo || !libvirt_dlopen

package libvirt

import (
	"errors"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/helper"
)

var errNoLibvirt = errors.New("this program was built without libvirt: build it again with `CGO_ENABLED=1 go build -tags libvirt_dlopen`")

// Open returns a backend that says why it can't be used.
func Open(container.Config) container.Backend {
	return helper.Absent{Backend: container.Libvirt, Why: errNoLibvirt}
}
