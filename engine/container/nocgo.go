//go:build !cgo

package container

import "errors"

// Main must be the first call of main and of TestMain of a program that uses
// this package. In a program built without cgo it does nothing, for no
// container can be started.
func Main() {}

var errNoCgo = errors.New("this program was built without cgo, which containers need: build it again with CGO_ENABLED=1 and a C compiler (apt-get install gcc libc6-dev)")

func openEmbedded(Config) Backend { return absent{embeddedName, errNoCgo} }
