package volume

import (
	"bytes"
	"errors"
	"io"
)

// Peek returns n bytes of an image from off on, or zeros where the image is too
// short for them: what is cut off is not recognised, and is no error.
func Peek(r *io.SectionReader, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if off < 0 || off+int64(n) > r.Size() {
		return b, nil
	}
	if _, err := r.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Bytes returns the length of blocks of size bytes each, at most the largest
// int64: a hostile superblock gives no negative length.
func Bytes(blocks, size uint64) int64 {
	if size != 0 && blocks > uint64(1<<63-1)/size {
		return 1<<63 - 1
	}
	return int64(blocks * size)
}

// Text returns the text before the first NUL.
func Text(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
