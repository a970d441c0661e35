//go:build !cgo || !libvirt_dlopen

package container

import (
	"context"
	"errors"
	"fmt"
)

var errNoLibvirt = errors.New("this program was built without libvirt: build it again with `CGO_ENABLED=1 go build -tags libvirt_dlopen`")

// absent is a backend that was not built in.
type absent struct {
	name string
	why  error
}

func openLibvirt(Config) Backend { return absent{libvirtName, errNoLibvirt} }

func (a absent) Name() string { return a.name }

func (a absent) Probe(context.Context) (Features, error) { return Features{}, a.why }

func (a absent) Run(context.Context, Spec, IO) (Result, error) {
	return failed, fmt.Errorf("backend %s: %w", a.name, a.why)
}

func (a absent) Reap(context.Context) error { return nil }
