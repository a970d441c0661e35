package squashfs

import (
	"bytes"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"b9.build/b9/engine/fsys/internal/volume"
)

// Numbers of compressions in a superblock.
const (
	gzipCoded = 1
	lzmaCoded = 2
	lzoCoded  = 3
	xzCoded   = 4
	lz4Coded  = 5
	zstdCoded = 6
)

// encoder compresses blocks, one at a time.
type encoder func(b []byte) ([]byte, error)

func newEncoder(kind string) encoder {
	if kind == "gzip" {
		var out bytes.Buffer
		z, _ := zlib.NewWriterLevel(nil, 6) // fails for a level out of range only
		return func(b []byte) ([]byte, error) {
			out.Reset()
			z.Reset(&out)
			if _, err := z.Write(b); err != nil {
				return nil, err
			}
			err := z.Close()
			return bytes.Clone(out.Bytes()), err
		}
	}
	s, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(1<<20)) // fails for bad options only
	return func(b []byte) ([]byte, error) { return s.EncodeAll(b, nil), nil }
}

// compress returns b itself when it does not get shorter.
func (encode encoder) compress(b []byte) ([]byte, error) {
	out, err := encode(b)
	if err == nil && len(out) >= len(b) {
		return b, nil
	}
	return out, err
}

// decoder decompresses a block to at most limit bytes.
type decoder func(b []byte, limit int64) ([]byte, error)

// newDecoder returns the decoder of a compression. The dictionary that a block in
// xz names is allocated whatever its size, and lzma's up to maxBlock.
func newDecoder(kind uint16) (decoder, error) {
	switch kind {
	case gzipCoded:
		return streamed(func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }), nil
	case lzmaCoded:
		return streamed(func(r io.Reader) (io.Reader, error) { return lzma.ReaderConfig{DictCap: maxBlock}.NewReader(r) }), nil
	case xzCoded:
		return streamed(func(r io.Reader) (io.Reader, error) { return xz.ReaderConfig{DictCap: maxBlock}.NewReader(r) }), nil
	case lzoCoded:
		return filled(lzo.Decompress), nil
	case lz4Coded:
		return filled(lz4.UncompressBlock), nil
	case zstdCoded:
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2<<20), zstd.WithDecoderLowmem(true))
		return func(b []byte, _ int64) ([]byte, error) { return z.DecodeAll(b, nil) }, err
	}
	return nil, volume.Damaged("compression %d is unknown", kind)
}

// streamed decodes by a library that reads.
func streamed(open func(io.Reader) (io.Reader, error)) decoder {
	return func(b []byte, limit int64) ([]byte, error) {
		r, err := open(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, limit+1))
	}
}

// filled decodes by a library that fills a buffer.
func filled(decode func(src, dst []byte) (int, error)) decoder {
	return func(b []byte, limit int64) ([]byte, error) {
		out := make([]byte, limit)
		n, err := decode(b, out)
		return out[:max(n, 0)], err
	}
}

// decompress is decode of foreign bytes: what goes wrong, were it a panic of a
// library, is damage.
func (decode decoder) decompress(b []byte, limit int64) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil || err != nil || int64(len(out)) > limit {
			out, err = nil, volume.Damaged("a block does not decompress")
		}
	}()
	return decode(b, limit)
}
