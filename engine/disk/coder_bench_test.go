package disk

import (
	"testing"

	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/disk/press"
)

// BenchmarkZstd compresses units of real data by package press and by the
// library at its default level, in turn, on one processor, and reports medians in
// MB/s of processor time, their ratio, and that of the sizes. Our coder
// stays while it is at least 1.5 times as fast.
func BenchmarkZstd(b *testing.B) {
	const unit = 64 << 10
	data := realData(b, 64<<20)
	ours, err := press.NewZstd()
	if err != nil {
		b.Fatal(err)
	}
	library, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(unit),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2*unit)
	measure := func(compress func(dst, src []byte) []byte) (speed, size float64) {
		before := ownCPU(b)
		for at := 0; at+unit <= len(data); at += unit {
			size += float64(len(compress(buf, data[at:at+unit])))
		}
		return float64(len(data)) / (ownCPU(b) - before) / 1000, size
	}
	var speeds, theirs []float64
	var size, theirSize float64
	for b.Loop() {
		var speed float64
		speed, size = measure(ours.Compress)
		speeds = append(speeds, speed)
		speed, theirSize = measure(func(dst, src []byte) []byte { return library.EncodeAll(src, dst) })
		theirs = append(theirs, speed)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(speeds), "b9-MB/s")
	b.ReportMetric(median(theirs), "library-MB/s")
	b.ReportMetric(median(speeds)/median(theirs), "ratio")
	b.ReportMetric(size/theirSize, "size-ratio")
}
