package engine

import (
	"context"
	"fmt"
	"io"

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/sparse"
)

// CheckText finds what is no text: bytes that are not UTF-8, NUL bytes, and a
// byte-order mark. The error is a [PositionError] in the file of that name.
func CheckText(file, text string) error { return charset.Check(file, text) }

// ReadSmall returns what the regular file at path holds, at most limit bytes; a larger
// one is an error. It waits for nobody: pipes and devices, which may have come with a
// checkout, are errors at once.
func ReadSmall(path string, limit int64) ([]byte, error) {
	f, _, err := sparse.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

// Interruptible returns a reader that ends with the context, with its cause as the error.
func Interruptible(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}
