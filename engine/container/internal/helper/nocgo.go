//go:build !cgo

package helper

// beHelper does nothing in a program built without cgo: no container can be
// started there.
func beHelper() {}
