package pump

import (
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/sparse"
)

// Finish cuts a new file to size bytes, which frees what was reserved and not
// used, and then writes its tables, in the given order. What is all zero reads so
// already.
func Finish(f *os.File, size int64, chunks ...image.Chunk) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	for _, c := range chunks {
		if sparse.IsZero(c.Bytes) {
			continue
		}
		if err := writeSparse(f, c.Bytes, c.At); err != nil {
			return err
		}
	}
	return nil
}

// writeSparse writes body but for long runs of zeros, which large blocks have:
// the file is new and reads as zero there.
func writeSparse(f *os.File, body []byte, at int64) error {
	const run = 64 << 10
	for len(body) > 0 {
		n := 0
		for len(body)-n > run && sparse.IsZero(body[n:n+run]) {
			n += run
		}
		body, at = body[n:], at+int64(n)
		for n = min(run, len(body)); len(body)-n > run && !sparse.IsZero(body[n:n+run]); {
			n += run
		}
		if len(body)-n <= run {
			n = len(body)
		}
		if _, err := f.WriteAt(body[:n], at); err != nil {
			return err
		}
		body, at = body[n:], at+int64(n)
	}
	return nil
}
