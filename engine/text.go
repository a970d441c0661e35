package engine

import "b9.build/b9/engine/internal/charset"

// CheckText finds what is no text: bytes that are not UTF-8, NUL bytes, and a
// byte-order mark. The error is a [PositionError] in the file of that name.
func CheckText(file, text string) error { return charset.Check(file, text) }
