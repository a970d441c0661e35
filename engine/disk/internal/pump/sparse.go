package pump

import (
	"os"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/sparse"
)

// WriteChunks writes the tables of a new file, in the given order.
func WriteChunks(f *os.File, chunks ...image.Chunk) error {
	for _, c := range chunks {
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
