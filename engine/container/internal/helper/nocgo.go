//go:build !cgo

package helper

// Main does nothing in a program built without cgo: no container can be
// started there.
func Main() {}
