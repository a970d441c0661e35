//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"testing"

	"b9.build/b9/engine/container"
)

// testDriver is a libvirt without a daemon: https://libvirt.org/drvtest.html.
const testDriver = "test:///default"

func connectTest(t *testing.T) *daemon {
	d, err := connect(t.Context(), container.Config{LibvirtURI: testDriver})
	if err != nil {
		t.Skipf("libvirt has no driver for tests: %v", err)
	}
	return d
}

func TestGivenUpCallKeepsItsConnection(t *testing.T) {
	d := connectTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	goOn, said := make(chan struct{}), make(chan error, 1)
	conn := d.conn
	_, err := ask(ctx, d, d.limit, func() (string, error) {
		cancel()
		<-goOn
		kind, err := conn.GetType()
		said <- err
		return kind, err
	}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	d.close()
	close(goOn)
	if err := <-said; err != nil {
		t.Errorf("call that goes on after the connection was closed: %v", err)
	}
}

func TestCloseWaitsForTheConnection(t *testing.T) {
	for range 100 {
		d := connectTest(t)
		d.close()
		if d.conn.Ref() == nil {
			t.Fatal("the connection is open after close")
		}
	}
}
